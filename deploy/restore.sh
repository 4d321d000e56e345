#!/usr/bin/env bash
# Puts back a backup that backup.sh made, after checking its SHA-256.
#
#   restore.sh FILE
#
# A .dump goes into the PostgreSQL database of MIGRATE_DATABASE_URL, or DATABASE_URL (or …_FILE): one that has no tables yet, and
# that nobody is connected to. Make it with deploy/postgres/roles.sql if roles are used. All of the backup is put there or nothing.
# A .db goes into DATA_DIR, which no service may be using; the store that was there stays beside it.
#
#   DEEPERSENSOR    the program `deepersensor`, if it is not in the PATH; it brings an older schema up to date, and takes back what the
#                   app role must not do. Where there is none, that role may change and remove entries of the audit trail until
#                   `deepersensor migrate` has run: run it before the service.
#
# Prints how many rows there are. Statuses: 0 done; 1 failed; 2 called or configured wrongly; 3 something is in the way.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib/database.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/database.sh"

file=${1:-}
[[ $# == 1 && -f $file ]] || end "$MISUSED" 'name one backup: restore.sh FILE'
[[ -f $file.sha256 ]] || end "$MISUSED" "$file.sha256 is missing: it lies beside each backup"
need_commands sha256sum
read -r expected _ <"$file.sha256"
read -r found _ < <(sha256sum -- "$file")
[[ $expected == "$found" ]] || end "$FAILED" "$file is not as it was when it was made: its SHA-256 is another one"

ask() {
    psql --no-psqlrc --no-password --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$database" --command="$1" ||
        end "$FAILED" 'the database cannot be asked'
}

load() {
    local url tables guests table
    need_commands psql pg_restore
    url=$(setting MIGRATE_DATABASE_URL)
    [[ $url ]] || url=$(setting DATABASE_URL)
    [[ $url ]] || end "$MISUSED" "$file comes from PostgreSQL: set MIGRATE_DATABASE_URL"
    connect_to "$url"
    tables=$(ask "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')")
    ((tables == 0)) || end "$IN_THE_WAY" "the database has tables, and nothing is overwritten: make an empty one"
    # Only who they are is shown of others' sessions; the server's own have no user.
    guests=$(ask "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND usesysid IS NOT NULL AND pid <> pg_backend_pid()")
    ((guests == 0)) || end "$IN_THE_WAY" "$guests others are connected to the database: stop the service first"
    # Rights come from the roles and the migrations of where it goes, not of where it comes from.
    pg_restore --exit-on-error --single-transaction --no-owner --no-acl --no-password --dbname="$database" "$file" ||
        end "$FAILED" 'pg_restore failed, and nothing was put into the database'
    if command -v "$deepersensor" >/dev/null; then
        # The service's own address is no concern of the schema's.
        [[ $(setting DATABASE_URL) ]] || export DATABASE_URL=$url
        "$deepersensor" migrate >/dev/null || end "$FAILED" 'the rows are there, but deepersensor migrate failed'
    else
        cat >&2 <<'END'
restore.sh: WARNING: deepersensor is not here, so nothing was taken back from the app role: it may change and remove entries of
restore.sh: audit_log until `deepersensor migrate` has run with MIGRATE_DATABASE_URL. Run that before the service.
END
    fi
    for table in users conversations messages turns audit_log; do
        echo "$table $(ask "SELECT count(*) FROM $table")"
    done
}

case $(head -c 5 -- "$file") in
    PGDMP) load ;;
    SQLit)
        need_commands "$deepersensor"
        [[ ! $(setting DATABASE_URL) ]] || end "$MISUSED" "$file is of SQLite: unset DATABASE_URL to restore it into DATA_DIR"
        "$deepersensor" restore --from "$file" || end "$FAILED" 'nothing was changed'
        ;;
    *) end "$MISUSED" "$file is no backup" ;;
esac
