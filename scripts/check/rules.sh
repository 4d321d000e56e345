# What watches the service: Prometheus' configuration, its rules and their tests, Alertmanager's configuration, Grafana's dashboards, and
# whether every alert has a section in the runbook.
#
# Whether the service tells the metrics that all of these ask for is seen by tests/it/dashboards, which asks a real one.
set -euo pipefail
source scripts/lib/need.sh
need promtool:prometheus amtool:prometheus-alertmanager
cd deploy/observability

# The token's file is on the machine that scrapes only, so what the configuration names is not looked for.
promtool check config --syntax-only prometheus/prometheus.yml
promtool check rules prometheus/records.yml prometheus/alerts.yml
promtool test rules prometheus/tests/*.yml
amtool check-config alertmanager/alertmanager.yml
for severity in critical warning; do
    receivers=$(amtool config routes test --config.file=alertmanager/alertmanager.yml "severity=$severity" 2>/dev/null)
    echo "severity=$severity goes to $receivers"
done
cd ../..
python3 scripts/check/observability.py
