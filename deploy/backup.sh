#!/usr/bin/env bash
# Makes a backup of the store, beside a running service, and removes the oldest ones.
#
#   backup.sh [DIRECTORY]      default BACKUP_DIR, or /var/backups/deepersensor
#
#   BACKUP_KEEP                                   how many are kept (14)
#   MIGRATE_DATABASE_URL, DATABASE_URL, …_FILE    PostgreSQL, by the first one set: deepersensor-TIME.dump, made by pg_dump, whose
#                                                 version must not be older than the server's
#   DATA_DIR                                      otherwise SQLite: deepersensor-TIME.db, made by `deepersensor backup`
#   DEEPERSENSOR                                  that program, if it is not in the PATH
#
# The directory belongs to whoever calls. Each backup has its SHA-256 beside it. It appears under its name only when it is whole, readable and on the disk; no file is ever
# overwritten. Prints the name. Statuses: 0 done; 1 failed; 2 called or configured wrongly; 3 another backup is being made there.
# JWT_SECRET is in no backup: keep it elsewhere.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib/database.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/database.sh"
umask 077

directory=${1:-${BACKUP_DIR:-/var/backups/deepersensor}}
keep=${BACKUP_KEEP:-14}
[[ $keep =~ ^[1-9][0-9]*$ ]] || end "$MISUSED" "BACKUP_KEEP is $keep, which is no number from 1 on"
need_commands sha256sum flock
mkdir -p -- "$directory" || end "$MISUSED" "cannot make $directory"

# Whoever else owns it could put links there, also in place of the lock.
[[ -O $directory ]] || end "$MISUSED" "$directory belongs to somebody else"
[[ ! -L $directory/.lock ]] || end "$MISUSED" "$directory/.lock is a link"
exec {lock}>>"$directory/.lock"
flock --nonblock "$lock" || end "$IN_THE_WAY" "another backup is being made in $directory"

url=$(setting MIGRATE_DATABASE_URL)
[[ $url ]] || url=$(setting DATABASE_URL)
name=deepersensor-$(date -u +%Y%m%dT%H%M%SZ)

partial=
trap '[[ ! $partial ]] || rm -f -- "$partial"' EXIT

# Under its last name: the sum first, so that no backup is ever without.
dump() {
    local file=$directory/$name.dump
    need_commands pg_dump pg_restore
    connect_to "$url"
    partial=$(mktemp "$directory/.partial-XXXXXXXX")
    pg_dump --format=custom --no-password --lock-wait-timeout=60s --dbname="$database" --file="$partial" ||
        end "$FAILED" 'pg_dump failed'
    pg_restore --list "$partial" >/dev/null || end "$FAILED" 'what pg_dump wrote cannot be read'
    sync -- "$partial"
    (set -C && sum_of "$partial" "$name.dump" >"$file.sha256") || end "$FAILED" "cannot write $file.sha256"
    sync -- "$file.sha256"
    # Fails where there is a file of this name.
    ln -- "$partial" "$file" || end "$FAILED" "cannot write $file"
    sync -- "$directory"
    made=$file
}

# As `sha256sum --check` reads it in the backup's directory.
sum_of() {
    local sum rest
    read -r sum rest < <(sha256sum -- "$1")
    printf '%s  %s\n' "$sum" "$2"
}

copy() {
    need_commands "$deepersensor"
    made=$directory/$name.db
    "$deepersensor" backup --to "$made" >/dev/null || end "$FAILED" 'deepersensor backup failed'
}

if [[ $url ]]; then dump; else copy; fi

# Names sort by time; a new one never pushes itself out.
mapfile -t old < <(find "$directory" -maxdepth 1 -type f \( -name 'deepersensor-*.dump' -o -name 'deepersensor-*.db' \) | sort -r)
for file in "${old[@]:keep}"; do rm -f -- "$file" "$file.sha256"; done
echo "$made"
