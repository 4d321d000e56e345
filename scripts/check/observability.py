"""What promtool and amtool do not see of deploy/observability; scripts/check/rules.sh runs it.

An alert must have a severity that alertmanager.yml routes, words, tests of both kinds and a section in docs/runbook.md; a dashboard must
be readable: a title, a text and a unit for each panel, a legend for each line, nothing deprecated, nothing that overlaps. Prints all that is
wrong and ends with status 1.
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "deploy/observability"
RUNBOOK = ROOT / "docs/runbook.md"

# Panel types of today's Grafana that are used here; `graph`, `singlestat` and the Angular `table-old` are gone.
PANELS = {"row", "timeseries", "stat", "table", "state-timeline", "logs"}
# Sections of the runbook that are about no alert.
OTHER_SECTIONS = ["Three commands", "First five minutes", "More words in the log", "When the database lets nobody in"]
# Grafana's grid.
COLUMNS = 24

problems = []


def wrong(where, what):
    problems.append(f"{where}: {what}")


def alerts():
    groups = yaml.safe_load((OBSERVABILITY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_alert(alert, tested):
    name = alert["alert"]
    if alert["labels"].get("severity") not in ("critical", "warning"):
        wrong(name, "its severity is neither critical nor warning")
    for words in ("summary", "description"):
        if not alert["annotations"].get(words):
            wrong(name, f"it has no {words}")
    if alert["annotations"].get("runbook_url") != f"docs/runbook.md#{name.lower()}":
        wrong(name, f"its runbook_url is not docs/runbook.md#{name.lower()}")
    if not re.fullmatch(r"([A-Z][a-z]+)+", name):
        wrong(name, "its name is not in CamelCase")
    for kind in (True, False):
        if kind not in tested.get(name, set()):
            wrong(name, f"no test has it {'fire' if kind else 'stay silent'}")


def tested_alerts():
    """Of each alert, whether tests see it fire and see it silent."""
    tested = {}
    for path in (OBSERVABILITY / "prometheus/tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                tested.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    return tested


def check_runbook(names):
    text = RUNBOOK.read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    if sections != OTHER_SECTIONS + names:
        missing, extra = set(names) - set(sections), set(sections) - set(names) - set(OTHER_SECTIONS)
        wrong("docs/runbook.md", f"not the alerts in their order; missing {sorted(missing)}, of no alert {sorted(extra)}")
    anchors = {re.sub(r"[^\w -]", "", section).lower().replace(" ", "-") for section in sections}
    for link in re.findall(r"\]\(#([^)]+)\)", text):
        if link not in anchors:
            wrong("docs/runbook.md", f"no section #{link}")


def check_panel(where, panel):
    kind = panel["type"]
    if kind not in PANELS:
        wrong(where, f"its type {kind} is none of {sorted(PANELS)}")
    if not panel.get("title"):
        wrong(where, "it has no title")
    if kind == "row":
        return
    if not panel.get("description", "").endswith("."):
        wrong(where, "it has no text, or one without an end")
    if kind in ("timeseries", "stat", "state-timeline") and "unit" not in panel["fieldConfig"]["defaults"]:
        wrong(where, "it has no unit")
    for target in panel["targets"]:
        if not (target.get("expr") or target.get("query")):
            wrong(where, "a target asks nothing")
        if kind in ("timeseries", "state-timeline") and not target.get("legendFormat"):
            wrong(where, "a line has no legend")
        if target["datasource"]["type"] == "prometheus" and target["datasource"]["uid"] != "${datasource}":
            wrong(where, "it does not ask the chosen Prometheus")


def check_dashboard(path):
    dashboard = json.loads(path.read_text())
    name = path.name
    if dashboard["uid"] != f"deepersensor-{path.stem}":
        wrong(name, "its uid is not made from its file's name")
    if dashboard["editable"]:
        wrong(name, "it can be edited in Grafana, where the change would be lost")
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        wrong(name, "two panels have one id")
    taken = {}
    for panel in dashboard["panels"]:
        where = f"{name} / {panel.get('title')}"
        check_panel(where, panel)
        at = panel["gridPos"]
        if at["x"] + at["w"] > COLUMNS:
            wrong(where, "it is wider than the page")
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell in taken:
                wrong(where, f"it overlaps with {taken[cell]}")
                break
            taken[cell] = panel.get("title")


def check_sources():
    """What dashboards ask is provisioned."""
    provisioned = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/datasources/datasources.yml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]} | {"${datasource}"}
    for path in dashboards:
        for uid in re.findall(r'"uid": "((?!deepersensor-)[^"]+)"', path.read_text()):
            if uid not in uids:
                wrong(path.name, f"no datasource has the uid {uid}")


for path in OBSERVABILITY.rglob("*.yml"):
    try:
        list(yaml.safe_load_all(path.read_text()))
    except yaml.YAMLError as error:
        wrong(path.relative_to(ROOT), error)
if not problems:
    rules, tested = alerts(), tested_alerts()
    for alert in rules:
        check_alert(alert, tested)
    check_runbook([alert["alert"] for alert in rules])
    dashboards = sorted((OBSERVABILITY / "grafana/dashboards").glob("*.json"))
    for path in dashboards:
        check_dashboard(path)
    check_sources()
    print(f"{len(rules)} alerts and {len(dashboards)} dashboards")
for problem in problems:
    print(problem, file=sys.stderr)
sys.exit(bool(problems))
