//! The key table as people read it: `.env.example`, the README's table, and `check-config`'s report.

use std::fmt::Write as _;

use super::{
    keys::{ALL, Group, Key, Kind},
    sources::{Origin, Settings},
};

/// A commented `.env` with every key at its default.
pub fn env_example() -> String {
    let mut text = String::from(
        "# Every setting with its default. Copy to .env and uncomment what you change.\n\
         # Order: defaults < TOML file (--config) < .env < environment < flags. `deepersensor check-config` judges the result.\n",
    );
    for group in Group::ALL {
        let _ = write!(text, "\n# --- {} ---\n", group.title());
        for key in of(group) {
            let _ = write!(text, "\n# {}\n# {}={}\n", sentence(key), key.name, key.default);
        }
    }
    text
}

/// The README's table.
pub fn markdown_table() -> String {
    let mut text = String::from("| Name | Default | Meaning |\n| --- | --- | --- |\n");
    for group in Group::ALL {
        let _ = writeln!(text, "| **{}** | | |", group.title());
        for key in of(group) {
            let default =
                if key.default.is_empty() { "not set".to_owned() } else { format!("`{}`", key.default) };
            let _ = writeln!(text, "| `{}` | {default} | {} |", key.name, sentence(key));
        }
    }
    text
}

/// What a reload changes, and how: the table in `docs/reload.md`.
pub fn reload_table() -> String {
    let mut text = String::from("| Setting | How a reload changes it |\n| --- | --- |\n");
    for key in ALL {
        if let Some(reload) = key.reload {
            let _ = writeln!(text, "| `{}` | {reload} |", key.name);
        }
    }
    text
}

/// Every key with the value in force, where it came from, and whether a reload changes it; secrets only by their length.
pub fn report(settings: &Settings) -> String {
    let name_width = ALL.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let rows: Vec<_> = ALL
        .iter()
        .map(|key| {
            let (value, origin) = settings.get(key).map_or((String::from("-"), &Origin::Default), |raw| {
                let value = if key.hides(&raw.text) {
                    format!("[secret, {} bytes]", raw.text.len())
                } else {
                    raw.text.clone()
                };
                (value, &raw.origin)
            });
            (key, value, origin)
        })
        .collect();
    let value_width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0).min(40);
    let mut text = String::new();
    for (key, value, origin) in rows {
        let name = key.name;
        let change = if key.reload.is_some() { "reload" } else { "restart" };
        let _ = writeln!(text, "{name:name_width$}  {value:value_width$}  {change:7}  {origin}");
    }
    text
}

fn of(group: Group) -> impl Iterator<Item = &'static Key> {
    ALL.iter().copied().filter(move |key| key.group == group)
}

/// The key's help, with what its kind adds.
fn sentence(key: &Key) -> String {
    match key.kind {
        Kind::Choice(names) => format!("{} One of {}.", key.help, names.join(", ")),
        Kind::Secret => format!("{} Also as `{}_FILE`.", key.help, key.name),
        _ => key.help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_env_example_is_the_printed_one() {
        assert_eq!(
            include_str!("../../.env.example"),
            env_example(),
            "run `deepersensor check-config --example > .env.example`"
        );
    }

    #[test]
    fn the_chapter_on_reloading_holds_the_printed_table() {
        assert!(
            include_str!("../../docs/reload.md").contains(&reload_table()),
            "put the output of `deepersensor check-config --reloads` into docs/reload.md"
        );
    }

    #[test]
    fn the_readme_holds_the_printed_table() {
        assert!(
            include_str!("../../README.md").contains(&markdown_table()),
            "put the output of `deepersensor check-config --table` into README.md"
        );
    }
}
