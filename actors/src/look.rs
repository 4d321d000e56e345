//! Each dependency asked once, for somebody who wants to know before a start or a reload: nothing is written, made or loaded.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use crate::{db, model, rate_limit, system::SystemConfig};

/// How long one dependency has.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one dependency said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// For people; never holds credentials.
    pub name: String,
    /// What it is, or why it cannot be asked.
    pub answer: Result<String, String>,
    /// It answers, but somebody should do something about it.
    pub warning: Option<String>,
}

/// Asks all at once, each within [`PATIENCE`].
pub async fn dependencies(config: &SystemConfig) -> Vec<Dependency> {
    let mut asked: Vec<BoxFuture<'_, Dependency>> = vec![Box::pin(database(config))];
    if let Some(url) = &config.rate_limit.redis_url {
        asked.push(Box::pin(async move {
            let answer = in_time(rate_limit::look(url)).await.map(|()| "answers".to_owned());
            Dependency { name: "Redis".to_owned(), answer, warning: None }
        }));
    }
    for server in &config.model.upstreams {
        asked.push(Box::pin(async move {
            let found = in_time(model::look(server, &config.model.timeouts)).await;
            let warning = found.as_ref().ok().and_then(|found| found.warning.clone());
            Dependency { name: model::shown(server), answer: found.map(|found| found.what), warning }
        }));
    }
    join_all(asked).await
}

async fn database(config: &SystemConfig) -> Dependency {
    let schema = in_time(async { db::schema(&config.db).await.map_err(|error| error.to_string()) }).await;
    let warning = schema.as_ref().ok().and_then(|schema| match schema.found {
        None => Some("it is empty: the first start, or `deepersensor migrate`, makes its schema".to_owned()),
        Some(found) if found < schema.newest => {
            Some(format!("the next start, or `deepersensor migrate`, brings its schema to {}", schema.newest))
        }
        Some(found) if found > schema.newest => Some(format!(
            "its schema is a later version's: this one knows {} and does not start on it",
            schema.newest
        )),
        Some(_) => None,
    });
    let said = schema.map(|schema| match schema.found {
        Some(found) => format!("answers, schema {found}"),
        None => "answers, no schema yet".to_owned(),
    });
    let name = if config.db.database_url.is_some() { "Postgres" } else { "SQLite" };
    Dependency { name: name.to_owned(), answer: said, warning }
}

async fn in_time<T>(ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("does not answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| late())
}
