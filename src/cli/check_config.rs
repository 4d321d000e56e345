//! `check-config`: what is in force, where it came from, and all that is wrong with it.
//!
//! Beside the settings themselves it looks at what they name on this machine, changing nothing; what answers elsewhere
//! it asks only when told to.

use std::{fmt::Write as _, process::ExitCode};

use actors::{
    data_dir,
    look::{Dependency, dependencies},
};
use clap::Args;

use super::{
    STATUS_FAILED,
    terminal::{Terminal, harmless},
};
use crate::config::{self, Config, Problem, Problems, Sources, keys};

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    /// Print a commented .env with every setting instead
    #[arg(long, conflicts_with_all = ["table", "reloads", "connect"])]
    example: bool,
    /// Print the settings as a Markdown table instead
    #[arg(long, conflicts_with_all = ["reloads", "connect"])]
    table: bool,
    /// Print what a reload changes as a Markdown table instead
    #[arg(long, conflicts_with = "connect")]
    reloads: bool,
    /// Also ask the database, Redis and the model servers; nothing is written
    #[arg(long)]
    connect: bool,
}

pub(crate) async fn run(
    args: &CheckConfigArgs,
    sources: &Sources,
    terminal: Terminal,
) -> anyhow::Result<ExitCode> {
    if args.example {
        terminal.write(config::env_example())?;
    } else if args.table {
        terminal.write(config::markdown_table())?;
    } else if args.reloads {
        terminal.write(config::reload_table())?;
    } else {
        let (settings, judged) = Config::examine(sources);
        terminal.write(config::report(&settings))?;
        let config = judged.and_then(on_this_machine)?;
        terminal.line("\nthe configuration is valid")?;
        if args.connect {
            return connect(&config, terminal).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at what a start would find on this machine.
fn on_this_machine(config: Config) -> Result<Config, Problems> {
    match data_dir::would_do(config.data_dir()) {
        Ok(()) => Ok(config),
        Err(what) => {
            let fix = "name a directory of the service's own user, or make this one its own";
            Err(Problems(vec![Problem::new(keys::DATA_DIR.name, what, fix)]))
        }
    }
}

async fn connect(config: &Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let found = dependencies(&config.system).await;
    terminal.write(told(&found, terminal))?;
    let all_answer = found.iter().all(|dependency| dependency.answer.is_ok());
    Ok(if all_answer { ExitCode::SUCCESS } else { ExitCode::from(STATUS_FAILED) })
}

fn told(found: &[Dependency], terminal: Terminal) -> String {
    let width = found.iter().map(|dependency| dependency.name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for Dependency { name, answer, warning } in found {
        let name = harmless(name);
        let answer = match answer {
            Ok(answer) => harmless(answer),
            Err(why) => terminal.alarm(&harmless(why)),
        };
        let _ = writeln!(text, "{name:width$}  {answer}");
        if let Some(warning) = warning {
            let _ = writeln!(
                text,
                "{:width$}  {}",
                "",
                terminal.alarm(&harmless(&format!("warning: {warning}")))
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dependency_is_told_with_its_answer_and_what_to_do_about_it() {
        let found = [
            Dependency {
                name: "SQLite".to_owned(),
                answer: Ok("answers, schema 3".to_owned()),
                warning: None,
            },
            Dependency {
                name: "Ollama http://o".to_owned(),
                answer: Ok("answers, version 0.12.0, 2 models".to_owned()),
                warning: Some("it has known security holes".to_owned()),
            },
            Dependency {
                name: "Redis".to_owned(),
                answer: Err("cannot \u{1b}[2Jbe asked".to_owned()),
                warning: None,
            },
        ];
        let expected = "
SQLite           answers, schema 3
Ollama http://o  answers, version 0.12.0, 2 models
                 warning: it has known security holes
Redis            cannot [2Jbe asked
";
        assert_eq!(told(&found, Terminal::plain()), expected);
    }
}
