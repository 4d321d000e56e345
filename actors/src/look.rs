//! Each dependency asked once, for somebody who wants to know before a start or a reload: nothing is written, made or loaded.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use crate::{
    db::{self, Schema, Standing},
    model, rate_limit,
    system::SystemConfig,
};

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
            Dependency { name: server.to_string(), answer: found.map(|found| found.what), warning }
        }));
    }
    join_all(asked).await
}

async fn database(config: &SystemConfig) -> Dependency {
    let schema = in_time(async { db::schema(&config.db).await.map_err(|error| error.to_string()) }).await;
    let name = if config.db.database_url.is_some() { "Postgres" } else { "SQLite" }.to_owned();
    match schema.and_then(|schema| in_words(&schema)) {
        Ok((said, warning)) => Dependency { name, answer: Ok(said), warning },
        Err(why) => Dependency { name, answer: Err(why), warning: None },
    }
}

/// What a schema is and what somebody should do about it; or why the service does not start on it.
fn in_words(schema: &Schema) -> Result<(String, Option<String>), String> {
    let Schema { found, newest, standing, is_migrated } = schema;
    let (said, missing) = match found {
        Some(found) => (format!("answers, schema {found}"), "its schema is older than this binary"),
        None => ("answers, no schema yet".to_owned(), "it is empty"),
    };
    match standing {
        Err(why) => Err(format!("answers, but the service does not start on its schema: {why}")),
        Ok(Standing::Current) => Ok((said, None)),
        Ok(Standing::Newer { .. }) => {
            Ok((format!("{said}, newer than this binary's {newest}, which works on it"), None))
        }
        Ok(Standing::Older) => {
            let remedy = if *is_migrated {
                format!("the next start, or `deepersensor migrate`, brings its schema to {newest}")
            } else {
                format!(
                    "this role may not change its schema, and the service does not start before `deepersensor migrate`, with \
                     MIGRATE_DATABASE_URL, brings it to {newest}"
                )
            };
            Ok((said, Some(format!("{missing}: {remedy}"))))
        }
    }
}

async fn in_time<T>(ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("does not answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e06_a_schema_is_told_by_what_a_start_makes_of_it() {
        let told = |found, standing, is_migrated| {
            in_words(&Schema { found, newest: 3, standing, is_migrated })
                .map(|(said, warning)| (said, warning.unwrap_or_default()))
        };
        let current = told(Some(3), Ok(Standing::Current), false).unwrap();
        assert_eq!(current, ("answers, schema 3".to_owned(), String::new()));
        let newer = told(Some(9), Ok(Standing::Newer { by: 1 }), false).unwrap();
        assert!(newer.0.ends_with("schema 9, newer than this binary's 3, which works on it"), "{newer:?}");
        assert_eq!(newer.1, "", "nobody has to do anything");

        for (found, missing) in [(None, "it is empty: "), (Some(2), "its schema is older than this binary: ")]
        {
            let (_, migrated) = told(found, Ok(Standing::Older), true).unwrap();
            assert_eq!(
                migrated,
                format!("{missing}the next start, or `deepersensor migrate`, brings its schema to 3")
            );
            let (_, refused) = told(found, Ok(Standing::Older), false).unwrap();
            assert!(refused.starts_with(missing) && refused.contains("does not start before"), "{refused}");
        }
        let unfit = told(Some(3), Err("migration 1 has another checksum".to_owned()), true).unwrap_err();
        assert!(unfit.contains("does not start on its schema: migration 1"), "{unfit}");
    }
}
