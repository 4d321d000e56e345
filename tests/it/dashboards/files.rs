//! What is asked of Prometheus: by dashboards, and by the runbook.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What Grafana puts in place of these before it asks. Names that begin another stand behind it.
const VARIABLES: [(&str, &str); 5] = [
    ("$__rate_interval", "1m"),
    ("$__range", "5m"),
    ("$__interval", "1s"),
    ("$instance", ".*"),
    ("$model", ".*"),
];

/// An expression, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub place: String,
    pub expression: String,
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All of every dashboard: panels, variables and annotations.
pub(super) fn dashboards() -> Vec<Asked> {
    let directory = Path::new(ROOT).join("deploy/observability/grafana/dashboards");
    let mut asked = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let title = dashboard["title"].as_str().unwrap();
        let mut ask = |place: &Value, expression: &str| {
            let mut expression = expression.to_owned();
            for (name, value) in VARIABLES {
                expression = expression.replace(name, value);
            }
            assert!(
                !expression.contains('$') || expression.contains("\"$1\""),
                "unknown variable: {expression}"
            );
            asked.push(Asked { place: format!("{title} / {}", place.as_str().unwrap()), expression });
        };
        for panel in list(&dashboard["panels"]) {
            for target in list(&panel["targets"]).iter().filter(|target| is_metric(target)) {
                ask(&panel["title"], target["expr"].as_str().unwrap());
            }
        }
        for annotation in list(&dashboard["annotations"]["list"]) {
            ask(&annotation["name"], annotation["expr"].as_str().unwrap());
        }
        for variable in list(&dashboard["templating"]["list"]) {
            let query = variable["definition"].as_str().unwrap_or_default();
            if let Some(values) = query.strip_prefix("label_values(") {
                let (metric, _label) = values.split_once(',').unwrap();
                ask(&variable["name"], metric);
            }
        }
    }
    asked
}

/// Panels of log lines and traces ask others.
fn is_metric(target: &Value) -> bool {
    let source = target["datasource"]["type"].as_str().unwrap();
    assert!(["prometheus", "loki", "tempo"].contains(&source), "{target:#}");
    source == "prometheus"
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The lines of the runbook's `promql` blocks.
pub(super) fn runbook() -> Vec<Asked> {
    let (text, mut asked) = (read("docs/runbook.md"), Vec::new());
    for (section, text) in text.split("\n## ").map(|section| section.split_once('\n').unwrap()) {
        for block in text.split("```promql\n").skip(1) {
            let (block, _) = block.split_once("```").unwrap();
            let line =
                |line: &str| Asked { place: format!("runbook / {section}"), expression: line.to_owned() };
            asked.extend(block.lines().map(str::trim).filter(|line| !line.is_empty()).map(line));
        }
    }
    asked
}

/// The names of metrics in an expression: what is ours, what every process tells, and what we record.
pub(super) fn metrics(expression: &str) -> BTreeSet<&str> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = expression.split(|letter| !is_name(letter));
    words
        .filter(|word| ["deepersensor_", "process_", "job:"].iter().any(|ours| word.starts_with(ours)))
        .collect()
}

/// The names of all samples on a page of metrics, shown or only announced.
pub(super) fn exported(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for announced in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = announced.split_once(' ').unwrap();
        let endings: &[&str] = match kind {
            // The older of the two formats announces a counter by its sample's name.
            "counter" if name.ends_with("_total") => &[""],
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => panic!("{announced}"),
        };
        names.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    names
}

#[test]
fn names_are_told_from_functions_labels_and_durations() {
    let expression = "sum by (job, instance) (rate(deepersensor_turns_total{status=~\"failed|x\"}[5m])) / job:deepersensor_x:ratio5m";
    assert_eq!(
        metrics(expression).into_iter().collect::<Vec<_>>(),
        ["deepersensor_turns_total", "job:deepersensor_x:ratio5m"]
    );
    let page = "# HELP a A.\n# TYPE a counter\na_total 1\n# TYPE b histogram\n# TYPE c gauge\nc 1\n# TYPE d_total counter\n# EOF\n";
    assert_eq!(
        exported(page).into_iter().collect::<Vec<_>>(),
        ["a_total", "b_bucket", "b_count", "b_sum", "c", "d_total"]
    );
}
