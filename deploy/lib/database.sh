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

# What is percent-encoded, decoded as the service does it: a % without two digits after it is one.
decoded() {
    local rest=$1 byte
    decoded=
    while [[ $rest == *%* ]]; do
        decoded+=${rest%%\%*}
        rest=${rest#*%}
        byte=%
        if [[ $rest =~ ^[0-9A-Fa-f]{2} ]]; then
            printf -v byte '%b' "\\x${rest:0:2}"
            rest=${rest:2}
        fi
        decoded+=$byte
    done
    decoded+=$rest
}

# Sets `database`, an address without its password, and PGPASSWORD: arguments can be read by every user of the machine. An address
# whose password cannot be told from the rest is refused, and not shown.
connect_to() {
    local url=$1 rest authority user
    [[ $url =~ ^postgres(ql)?:// ]] || end "$MISUSED" 'the address of the database must begin with postgres://'
    rest=${url#*://}
    authority=${rest%%[/?]*}
    rest=${rest#"$authority"}
    if [[ $rest == *@* ]]; then
        end "$MISUSED" 'behind the host there is an @: write / ? and @ of a password as %2F %3F and %40, any other @ as %40 too'
    fi
    # A name may be written in other ways only by percent.
    if [[ $rest =~ [?\&](ssl)?password(=|\&|$) || $rest =~ [?\&][^=\&]*% ]]; then
        end "$MISUSED" 'the password must stand before the host, postgres://user:password@host/database, and none behind it'
    fi
    user=
    if [[ $authority == *@* ]]; then
        user=${authority%@*}
        if [[ $user == *:* ]]; then
            decoded "${user#*:}"
            export PGPASSWORD=$decoded
            user=${user%%:*}
        fi
        user+=@
    fi
    database=postgresql://$user${authority##*@}$rest
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
