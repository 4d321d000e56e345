//! What DESIGN.md says of the code, held against it.

use std::{fs, path::Path};

/// All of the service's source.
fn code() -> String {
    fn read(directory: &Path, code: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, code);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                *code += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut code = String::new();
    for directory in ["domain/src", "actors/src", "src"] {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut code);
    }
    code
}

/// What stands between backticks, without the labels of a metric.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).map(|name| name.split('{').next().unwrap_or(name))
}

#[test]
fn d02_every_bound_in_the_table_has_its_name_and_its_metric_in_the_code() {
    let design = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/DESIGN.md")).unwrap();
    let (_, bounds) = design.split_once("\n## Bounds\n").unwrap();
    let (code, mut rows) = (code(), 0);
    for row in bounds.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, _, set_by, metrics] = cells[..] else { panic!("{row}") };
        rows += usize::from(!what.starts_with("**"));
        for name in names(set_by) {
            let name = name.rsplit("::").next().unwrap_or(name);
            let is_file = name.ends_with(".rs")
                && Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name).is_file();
            assert!(is_file || code.contains(name), "{name}: {row}");
        }
        let is_gate = metrics.starts_with("gate");
        for name in names(metrics) {
            let is_shown = code.contains(&format!("deepersensor_{}", name.trim_end_matches("_seconds")));
            assert!(is_shown || is_gate && code.contains(&format!("\"{name}\"")), "{name}: {row}");
        }
    }
    assert!(rows > 40, "{rows} rows are not the whole table");
}
