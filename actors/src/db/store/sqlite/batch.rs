//! One transaction: changes sorted by table, one statement each.

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{accounts, sessions, turns};
use crate::db::{
    DbError,
    message::{Write, Written},
    store::{Applied, plan::Plan, stored::broken},
};

pub(super) async fn apply(db: &mut SqliteConnection, batch: &[&Write]) -> Result<Applied, DbError> {
    let mut plan = Plan::of(batch);
    let mut answers = Plan::answers(batch.len());
    for (place, write) in &plan.others {
        let answer = alone(&mut *db, write).await?;
        if let Some(slot) = answers.get_mut(*place) {
            *slot = answer;
        }
    }
    if !plan.begins.is_empty() {
        let admitted = turns::admit(&mut *db, &plan.begins).await?;
        plan.keep_admitted(&admitted, &mut answers);
        turns::begin(&mut *db, &plan.begins).await?;
    }
    if !plan.checkpoints.is_empty() {
        turns::checkpoint(&mut *db, &plan.checkpoints).await?;
    }
    if !plan.settlements.is_empty() {
        turns::settle(&mut *db, &plan.settlements).await?;
    }
    Ok(answers)
}

/// Writes what has no batch form. The inner error is a refusal that leaves the transaction whole.
async fn alone(db: &mut SqliteConnection, write: &Write) -> Result<Result<Written, DbError>, DbError> {
    Ok(Ok(match write {
        Write::CreateUser(new) => return accounts::create(db, &new.0, &new.1).await,
        Write::ReplacePasswordHash { user, old, new } => accounts::replace_hash(db, *user, old, new).await?,
        Write::StartSession(new) => sessions::start(db, &new.0, &new.1).await?,
        Write::RotateSession(rotate) => Written::Rotated(sessions::rotate(db, rotate).await?),
        Write::RenewLeases { owner, until } => turns::renew(db, *owner, *until).await?,
        Write::SweepExpired { now } => turns::sweep(db, *now).await?,
        Write::BeginTurn(_) | Write::Checkpoint(_) | Write::Settle(_) => {
            return Err(DbError::Broken("a batched change outside its batch".into()));
        }
    }))
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<DateTime<Utc>, DbError> {
    DateTime::from_timestamp_micros(row.try_get(column)?).ok_or_else(|| broken(column))
}

pub(super) fn optional_time(row: &SqliteRow, column: &str) -> Result<Option<DateTime<Utc>>, DbError> {
    let micros: Option<i64> = row.try_get(column)?;
    micros.map(|micros| DateTime::from_timestamp_micros(micros).ok_or_else(|| broken(column))).transpose()
}
