//! `migrate`: brings the store's schema up to date, for deployments that do so before the new binary serves.

use std::process::ExitCode;

use super::terminal::Terminal;
use crate::config::Config;

pub(crate) async fn run(config: Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let store = if config.system.db.database_url.is_some() {
        "postgres".to_owned()
    } else {
        format!("sqlite in {}", config.data_dir().display())
    };
    actors::db::migrate(&config.system.db).await?;
    terminal.line(format!("the schema of {store} is up to date"))?;
    Ok(ExitCode::SUCCESS)
}
