# deploy/secrets.sh, by running it: what it makes, for whom, that it keeps what is there, and what it refuses. Root runs it as the
# stack does: without any capability, in the group that may read.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
secrets=$work/secrets
# Only root may give files to a group that it is not in.
group=65534
without_rights=(setpriv --regid "$group" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs)
if ((EUID != 0)); then
    group=$(id -g)
    without_rights=()
fi
mkdir "$secrets"

fail() { printf 'deploy/secrets.sh: %s\n' "$*" >&2; exit 1; }
attempt() { (umask 022; "${without_rights[@]}" sh deploy/secrets.sh "$secrets" "$group" >"$work/said" 2>&1); }
draw() { attempt || fail "fails: $(cat "$work/said")"; }
of() { cat "$secrets/$1"; }
sums() { (cd "$secrets" && find . -type f | sort | xargs sha256sum); }
is_unchanged() { [[ $before == "$(sums)" ]]; }

draw

# Its own head says what it makes; stack.py goes by that.
promised=$(sed -n 's|^#   \([a-z]*\)/ \+\([^,]*\).*|\1 \2|p' deploy/secrets.sh |
    while read -ra words; do printf "./${words[0]}/%s\n" "${words[@]:1}"; done | sort)
made=$(cd "$secrets" && find . -type f | sort)
[[ $made == "$promised" ]] || fail "makes other files than its head says: $(diff <(echo "$promised") <(echo "$made"))"

wrong=$(find "$secrets" -mindepth 1 \( -type f ! -perm 0440 -o -type d ! -perm 0750 -o ! -group "$group" \))
[[ -z $wrong ]] || fail "leaves a wrong mode or group: $wrong"
for secret in api/ops_token postgres/postgres_password postgres/owner_password postgres/app_password redis/redis_password; do
    [[ $(of "$secret") =~ ^[0-9a-f]{64}$ ]] || fail "draws a weak $secret"
done
(($(of api/jwt_secret | base64 -d | wc -c) == 48)) || fail 'draws a weak api/jwt_secret'
[[ $(sums | grep -E 'password$|token$|jwt_secret$' | cut -d' ' -f1 | sort | uniq -d | wc -l) == 1 ]] || fail 'draws a secret twice'
[[ $(of api/ops_token) == "$(of metrics/ops_token)" ]] || fail 'gives Prometheus another token than the service'
[[ $(of api/database_url) == "postgres://deepersensor_app:$(of postgres/app_password)@postgres:5432/deepersensor" ]] || fail 'writes a wrong database_url'
[[ $(of migrate/migrate_database_url) == "postgres://deepersensor_owner:$(of postgres/owner_password)@postgres:5432/deepersensor" ]] ||
    fail 'writes a wrong migrate_database_url'
[[ $(of api/redis_url) == "redis://:$(of redis/redis_password)@redis:6379/0" ]] || fail 'writes a wrong redis_url'
openssl verify -verify_hostname localhost -CAfile "$secrets/tls/fullchain.pem" "$secrets/tls/fullchain.pem" >/dev/null || fail 'makes a certificate that does not verify'
of_key() { openssl pkey -in "$secrets/tls/privkey.pem" -pubout; }
of_certificate() { openssl x509 -in "$secrets/tls/fullchain.pem" -noout -pubkey; }
[[ $(of_key) == "$(of_certificate)" ]] || fail 'makes a certificate of another key'

before=$(sums)
draw
is_unchanged || fail 'changes secrets that are there'
chmod 0777 "$secrets/api/jwt_secret"
draw
[[ $(stat -c %a "$secrets/api/jwt_secret") == 440 ]] || fail 'leaves a mode that somebody loosened'

# Its own certificate is renewed before it ends, with the same key; anybody else's is left alone.
certify() {
    openssl req -x509 -new -key "$secrets/tls/privkey.pem" -days 3 -subj "/O=$1/CN=localhost" >"$work/certificate"
    mv "$work/certificate" "$secrets/tls/fullchain.pem"
}
certify 'DeeperSensor, self-signed'
draw
openssl x509 -in "$secrets/tls/fullchain.pem" -noout -checkend $((300 * 86400)) >/dev/null || fail 'lets its certificate end'
[[ $(of_key) == "$(of_certificate)" ]] || fail 'renews a certificate for another key'
certify 'Somebody else'
before=$(sums)
draw
is_unchanged || fail 'replaces a certificate that is not its own'

rm "$secrets/tls/privkey.pem"
if attempt; then fail 'makes a key for a certificate that has another'; fi
grep -q 'but not its key' "$work/said" || fail "does not say what is wrong: $(cat "$work/said")"
[[ -z $(find "$secrets" -name '*.??????' ! -name '*.conf') ]] || fail 'leaves half a file behind'
