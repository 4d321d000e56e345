# The systemd units with their drop-in: by systemd-analyze verify, and by its score of exposure (0 to 10, less is better).
set -euo pipefail
source scripts/lib/need.sh
need systemd-analyze:systemd
exposure_max=1.5

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the unit starts must be there to be verified.
install -D /bin/true "$work/usr/local/bin/deepersensor"
install -D /bin/true "$work/bin/kill"
units=$work/etc/systemd/system
install -D -m 0644 deploy/systemd/deepersensor.service "$units/deepersensor.service"
install -D /bin/true "$work/usr/local/lib/deepersensor/backup.sh"
install -m 0644 deploy/systemd/deepersensor-backup.{service,timer} "$units/"
install -D -m 0644 deploy/systemd/secrets.conf "$units/deepersensor.service.d/secrets.conf"
for unit in basic.target network-online.target sysinit.target shutdown.target multi-user.target timers.target time-set.target time-sync.target; do
    printf '[Unit]\nDescription=%s\n' "$unit" >"$units/$unit"
done
# It passes what it does not know with no more than a word about it.
systemd-analyze verify --root="$work" --man=no --generators=no deepersensor.service deepersensor-backup.{service,timer} >"$work/said" 2>&1 || echo "status $?" >>"$work/said"
if [[ -s $work/said ]]; then
    sed 's/^/systemd: /' "$work/said" >&2
    exit 1
fi

score=$(systemd-analyze security --offline=true --no-pager deploy/systemd/deepersensor.service | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p')
if ! awk -v score="${score:-10}" -v max="$exposure_max" 'BEGIN { exit !(score <= max) }'; then
    echo "systemd: exposed by $score, above $exposure_max" >&2
    exit 1
fi
