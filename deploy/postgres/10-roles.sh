#!/bin/sh
# Runs roles.sql at the first start of a PostgreSQL image (this directory mounted at /docker-entrypoint-initdb.d), or by hand.
#
#   POSTGRES_USER, POSTGRES_DB                  superuser and database (postgres, deepersensor); PGHOST and the like for elsewhere
#   OWNER_PASSWORD_FILE, APP_PASSWORD_FILE      files with one password each (/run/secrets/owner_password, …/app_password)
#   OWNER_ROLE, APP_ROLE                        the roles' names (deepersensor_owner, deepersensor_app)
#
# May be run again: that sets the passwords anew, which is also how to rotate them. Ends with psql's status, nothing half done;
# 2 without a password.
set -eu

database=${POSTGRES_DB:-deepersensor}
# Images source scripts that are not executable: then $0 is their own.
here=/docker-entrypoint-initdb.d
case $0 in
    *10-roles.sh) here=$(dirname -- "$0") ;;
esac

# The first line of a file, which must not be empty.
password_in() {
    password=
    if [ -r "$1" ]; then IFS= read -r password <"$1" || :; fi
    if [ -z "$password" ]; then
        echo "10-roles.sh: there is no password in $1" >&2
        return 2
    fi
    printf '%s' "$password"
}

OWNER_PASSWORD=$(password_in "${OWNER_PASSWORD_FILE:-/run/secrets/owner_password}")
APP_PASSWORD=$(password_in "${APP_PASSWORD_FILE:-/run/secrets/app_password}")
export OWNER_PASSWORD APP_PASSWORD

psql --no-psqlrc --username "${POSTGRES_USER:-postgres}" --dbname "$database" --set ON_ERROR_STOP=1 \
    --set owner="${OWNER_ROLE:-deepersensor_owner}" --set app="${APP_ROLE:-deepersensor_app}" --set database="$database" \
    --file "$here/roles.sql"
