#!/bin/sh
# Draws every secret of the stack, once.
#
#   deploy/secrets.sh DIRECTORY [GROUP]      GROUP may read them; 65534, the group of the service, if none is given
#
# Each reader has a directory of its own, so that nobody holds what is not theirs: above all, the service that answers
# clients never sees the password of the role that owns its tables.
#
#   api/        jwt_secret database_url redis_url ops_token
#   migrate/    migrate_database_url database_url
#   postgres/   postgres_password owner_password app_password
#   redis/      redis_password redis_auth.conf
#   metrics/    ops_token
#   tls/        fullchain.pem privkey.pem, self-signed for `localhost` and what TLS_NAMES adds: "chat.example.org 10.0.0.5"
#
# Directories have mode 0750, files 0440, and both the group. What is there is kept, so it may be replaced by hand and the script
# run again; only a certificate that it made itself is renewed, 30 days before its end.
#
# When it breaks: with the name of the command that failed, and nothing half-written: a file appears whole or not at all. Secrets
# that were removed while the database was kept no longer fit it: see docs/containers.md.
set -eu
umask 077

[ $# -ge 1 ] || { echo "usage: $0 DIRECTORY [GROUP]" >&2; exit 2; }
directory=$1
group=${2:-65534}

# Where the stack's own names lead; elsewhere the two addresses are written by hand.
database_at=${DATABASE_AT:-postgres:5432/deepersensor}
redis_at=${REDIS_AT:-redis:6379/0}

certificate_days=365
renewed_days_before=30
maker='DeeperSensor, self-signed'

for tool in openssl mktemp; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is missing" >&2; exit 1; }
done

# keep NAME: writes standard input to that file unless it holds something.
keep() {
    if [ ! -s "$directory/$1" ]; then
        draft=$(mktemp "$directory/$1.XXXXXX")
        cat >"$draft"
        [ -s "$draft" ] || { rm -f "$draft"; echo "$0: nothing to write into $1" >&2; exit 1; }
        mv "$draft" "$directory/$1"
        echo "made $1"
    else
        cat >/dev/null
    fi
    chgrp "$group" "$directory/$1"
    chmod 0440 "$directory/$1"
}

# Passwords are hexadecimal: they stand in addresses, SQL and configuration files without being quoted.
draw() { openssl rand -hex 32; }
of() { cat "$directory/$1"; }

for reader in api migrate postgres redis metrics tls; do
    mkdir -p "$directory/$reader"
    chgrp "$group" "$directory/$reader"
    chmod 0750 "$directory/$reader"
done

openssl rand -base64 48 | keep api/jwt_secret
draw | keep api/ops_token
of api/ops_token | keep metrics/ops_token

draw | keep postgres/postgres_password
draw | keep postgres/owner_password
draw | keep postgres/app_password
echo "postgres://deepersensor_app:$(of postgres/app_password)@$database_at" | keep api/database_url
of api/database_url | keep migrate/database_url
echo "postgres://deepersensor_owner:$(of postgres/owner_password)@$database_at" | keep migrate/migrate_database_url

draw | keep redis/redis_password
echo "requirepass $(of redis/redis_password)" | keep redis/redis_auth.conf
echo "redis://:$(of redis/redis_password)@$redis_at" | keep api/redis_url

certificate=$directory/tls/fullchain.pem
key=$directory/tls/privkey.pem

# Whether the certificate is ours and about to end.
ends_soon() {
    [ -s "$certificate" ] || return 1
    openssl x509 -in "$certificate" -noout -issuer -nameopt multiline | grep -qF "$maker" || return 1
    ! openssl x509 -in "$certificate" -noout -checkend $((renewed_days_before * 24 * 60 * 60)) >/dev/null
}

certify() {
    names=DNS:localhost,IP:127.0.0.1,IP:::1
    for name in ${TLS_NAMES:-}; do
        case $name in
            *:*) names=$names,IP:$name ;;
            *[!0-9.]*) names=$names,DNS:$name ;;
            *) names=$names,IP:$name ;;
        esac
    done
    openssl req -x509 -new -key "$key" -days "$certificate_days" -subj "/O=$maker/CN=localhost" \
        -addext "subjectAltName=$names" -addext extendedKeyUsage=serverAuth
}

if [ -s "$certificate" ] && [ ! -s "$key" ]; then
    echo "$0: $certificate is there, but not its key: put it into $key, or remove the certificate" >&2
    exit 1
fi
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 | keep tls/privkey.pem
if ends_soon; then rm -f "$certificate"; fi
certify | keep tls/fullchain.pem
echo "every secret is in $directory"
