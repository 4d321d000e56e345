//! What the metrics page promises: the table in `docs/metrics.md`, names that tools accept, and labels that callers cannot add to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use support::{fake_ollama::Model, process::find_program, redis::Redis};

use crate::harness::{MODEL, Options, Store, TestApp};

/// Labels whose values depend on what is configured, built or asked.
const OPEN_LABELS: [&str; 7] = ["model", "route", "child", "upstream", "version", "shard", "le"];

/// Those of parts that a busy service need not have, told of in words.
const ELSEWHERE: [&str; 3] =
    ["deepersensor_db_replica_up", "deepersensor_trace_spans", "deepersensor_trace_spans_waiting"];

/// A service in which everything that is ever counted has been.
async fn busy() -> TestApp {
    let redis = Redis::shared().await.unwrap();
    // Slow enough for its text to come in several reads.
    let model = Model::new(MODEL).tokens(20).tokens_per_s(200.0);
    let app =
        TestApp::start(Options::on(Store::Sqlite).models([model]).set("REDIS_URL", redis.url()).reloadable())
            .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for priority in ["interactive", "batch"] {
        let said = json!([{"role": "user", "content": "hi"}]);
        let body = json!({"model": MODEL, "messages": said, "priority": priority});
        app.chat(&ada, &body).send().await.expect_status(200);
    }
    app.quiet().await;
    app
}

struct Family {
    kind: String,
    help: String,
    samples: usize,
    /// With their values.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The page by the names under which a query finds its samples.
fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut help = "";
    for line in page.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' '))
        {
            let help = help.strip_prefix(name).expect("help comes before its type").trim().to_owned();
            let family = Family { kind: kind.to_owned(), help, samples: 0, labels: BTreeMap::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} twice");
        } else {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let family = ["", "_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| {
                    families.get_mut(name.strip_suffix(suffix)?).map(|_| name.strip_suffix(suffix))
                })
                .flatten()
                .unwrap_or_else(|| panic!("{line} belongs to no family"));
            let family = families.get_mut(family).unwrap();
            family.samples += 1;
            let labels = rest
                .strip_prefix('{')
                .and_then(|rest| rest.split_once("} "))
                .map_or("", |(labels, _)| labels);
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once("=\"").unwrap();
                family
                    .labels
                    .entry(name.to_owned())
                    .or_default()
                    .insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
    families
}

fn table(families: &BTreeMap<String, Family>) -> String {
    let mut text = String::from("| Name | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n");
    for (name, family) in families {
        let labels = family.labels.iter().filter(|(label, _)| *label != "le").map(|(label, values)| {
            // Requests are described in words: what has not happened in a test is no less possible.
            let is_open = OPEN_LABELS.contains(&label.as_str()) || name == "deepersensor_http_requests_total";
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            if is_open { format!("`{label}`") } else { format!("`{label}` ({})", values.join(", ")) }
        });
        let labels = labels.collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{name}` | {} | {labels} | {} |", family.kind, family.help);
    }
    text
}

/// Every name that the code registers, as it stands there.
fn registered() -> BTreeSet<String> {
    fn read(directory: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = fs::read_to_string(&path).unwrap();
                let quoted = code.split('"').filter(|text| text.starts_with("deepersensor_"));
                let is_name =
                    |text: &&str| text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
                names.extend(quoted.filter(is_name).map(str::to_owned));
            }
        }
    }
    let mut names = BTreeSet::new();
    for directory in ["actors/src", "src"] {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut names);
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_metrics_are_those_of_the_page() {
    let app = busy().await;
    let families = families(&app.metrics().await);
    for (name, family) in &families {
        assert!(family.help.ends_with('.') && family.help.len() > 20, "{name}: {}", family.help);
        assert!(name.starts_with("deepersensor_") || name.starts_with("process_"), "{name}");
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    for name in registered() {
        if ELSEWHERE.contains(&name.as_str()) {
            assert!(page.contains(&format!("`{name}")), "{name} is not told of");
            continue;
        }
        let sample = name.strip_suffix("_count").unwrap_or(&name);
        let of = |suffix: &&str| families.get(&format!("{sample}{suffix}"));
        let family = ["", "_total", "_seconds"].iter().find_map(of);
        assert!(family.is_some_and(|family| family.samples > 0), "{name} has no sample in a busy service");
    }
    let printed = table(&families);
    let (_, documented) = page.split_once("\n| Name |").expect("a table");
    let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/metrics-table.md");
    fs::write(target, &printed).unwrap();
    assert_eq!(
        format!("| Name |{documented}"),
        printed,
        "docs/metrics.md is old: its table should be {target}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let app = busy().await;
    let page = app.metrics().await;
    app.finish().await;
    let promtool = find_program("promtool", &[], "prometheus").unwrap();
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/metrics-page.txt");
    fs::write(path, &page).unwrap();
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(fs::File::open(path).unwrap()).stdout(Stdio::piped());
    let checked = check.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn no_caller_can_add_a_label() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let ask = async |number: usize| {
        let body =
            json!({"model": format!("made-up-{number}"), "messages": [{"role": "user", "content": "hi"}]});
        app.chat(&ada, &body).send().await.expect_error(404, "model_not_found");
        app.get(&format!("/v1/made-up-{number}")).bearer(&ada.access).send().await.expect_status(404);
        app.get(&format!("/v1/models/made-up-{number}")).bearer(&ada.access).send().await.expect_status(404);
        app.call(&format!("MADEUP{number}"), "/v1/models").send().await.expect_status(405);
    };
    ask(0).await;
    // The page counts itself from the second time on.
    app.metrics().await;
    let before = app.metrics().await.lines().count();
    for number in 1..20 {
        ask(number).await;
    }
    let page = app.metrics().await;
    assert!(!page.contains("made-up") && !page.contains("MADEUP"), "{page}");
    assert_eq!(page.lines().count(), before, "{page}");
    app.finish().await;
}
