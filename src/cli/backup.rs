//! `backup` and `restore`: a SQLite store in one file and back. Of Postgres its own tools make better ones: see
//! `deploy/backup.sh`, which does both alike.

use std::{path::Path, process::ExitCode};

use actors::{
    clock::Clock,
    db::{DbConfig, back_up, restore},
};
use anyhow::bail;

use super::{store, terminal::Terminal};
use crate::config::Config;

/// Copies the store to a new file, also beside a running service.
pub(crate) async fn save(to: &Path, config: &Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let db = &config.system.db;
    refuse_postgres(db, "deploy/backup.sh")?;
    store::announce_existing(db)?;
    let sum = back_up(&db.data_dir, to).await?;
    terminal.line(format!("{sum}  {}", to.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Puts a copy in the place of the store, which no service may be using.
pub(crate) async fn load(from: &Path, config: &Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let db = &config.system.db;
    refuse_postgres(db, "deploy/restore.sh")?;
    store::announce(db);
    let before = restore(&db.data_dir, from, Clock::system().now()).await?;
    terminal.line(format!("restored {}", from.display()))?;
    if let Some(before) = before {
        terminal.line(format!("what was there before is {}", before.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse_postgres(db: &DbConfig, script: &str) -> anyhow::Result<()> {
    if db.database_url.is_some() {
        bail!("DATABASE_URL is set, and this verb is for SQLite: run {script}");
    }
    Ok(())
}
