//! `migrate`: brings the store's schema up to date, for deployments that do so before the new binary serves.

use std::process::ExitCode;

use super::{store, terminal::Terminal};
use crate::config::Config;

pub(crate) async fn run(config: Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    store::announce(&config.system.db);
    actors::db::migrate(&config.system.db).await?;
    terminal.line("the schema is up to date")?;
    Ok(ExitCode::SUCCESS)
}
