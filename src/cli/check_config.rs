//! `check-config`: what is in force, where it came from, and all that is wrong with it.

use std::process::ExitCode;

use clap::Args;

use super::terminal::Terminal;
use crate::config::{self, Config, Sources};

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    /// Print a commented .env with every setting instead
    #[arg(long, conflicts_with = "table")]
    example: bool,
    /// Print the settings as a Markdown table instead
    #[arg(long)]
    table: bool,
}

pub(crate) fn run(args: &CheckConfigArgs, sources: &Sources, terminal: Terminal) -> anyhow::Result<ExitCode> {
    if args.example {
        terminal.write(config::env_example())?;
    } else if args.table {
        terminal.write(config::markdown_table())?;
    } else {
        let (settings, judged) = Config::examine(sources);
        terminal.write(config::report(&settings))?;
        judged?;
        terminal.line("\nthe configuration is valid")?;
    }
    Ok(ExitCode::SUCCESS)
}
