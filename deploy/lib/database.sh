# Sourced by backup.sh and restore.sh: how they find the database, and how they end.
#
# Statuses: 0 done; 1 it failed, and nothing is half done; 2 called or configured wrongly; 3 something is in the way, and nothing
# was touched.

readonly FAILED=1 MISUSED=2 IN_THE_WAY=3

# end STATUS WHY
end() {
    echo "${0##*/}: $2" >&2
    exit "$1"
}

# The value of a setting, or of the file named by NAME_FILE; empty when there is neither.
setting() {
    local file=$1_FILE
    if [[ ${!1:-} ]]; then
        printf '%s' "${!1}"
    elif [[ ${!file:-} ]]; then
        cat -- "${!file}" || end "$MISUSED" "cannot read ${!file}, which $file names"
    fi
}

# Sets `database`, an address without its password, and PGPASSWORD: arguments can be read by every user of the machine.
connect_to() {
    local url=$1 rest authority user
    rest=${url#*://}
    authority=${rest%%[/?]*}
    if [[ ${rest#"$authority"} =~ [?\&]password= ]]; then
        end "$MISUSED" 'the password must stand before the host: postgres://user:password@host/database'
    fi
    user=
    if [[ $authority == *@* ]]; then
        user=${authority%@*}
        if [[ $user == *:* ]]; then
            local password=${user#*:}
            printf -v PGPASSWORD '%b' "${password//%/\\x}"
            export PGPASSWORD
            user=${user%%:*}
        fi
        user+=@
    fi
    database=postgresql://$user${authority##*@}${rest#"$authority"}
    export PGAPPNAME=deepersensor-backup PGCONNECT_TIMEOUT=10
}

# need COMMAND…
need_commands() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || end "$MISUSED" "$command is not installed"
    done
}

deepersensor=${DEEPERSENSOR:-deepersensor}
