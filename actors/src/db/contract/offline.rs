//! Whether `.sqlx`, against which queries are checked while compiling, says what the migrated database says.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};

use super::ground::Ground;

#[derive(Deserialize)]
struct Stored {
    query: String,
    describe: Value,
}

#[tokio::test]
async fn every_stored_query_is_described_as_the_migrations_make_it() {
    let ground = Ground::postgres().await;
    crate::db::migrate(&ground.config).await.unwrap();
    let mut db = PgConnection::connect(ground.config.database_url.as_ref().unwrap().reveal()).await.unwrap();
    let mut seen = 0;
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.sqlx")).unwrap() {
        let path = file.unwrap().path();
        let stored: Stored = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let described = db.describe(AssertSqlSafe(stored.query.clone()).into_sql_str()).await;
        let described = serde_json::to_value(described.unwrap()).unwrap();
        assert_eq!(described, stored.describe, "run scripts/sqlx-prepare: {}", stored.query);
        seen += 1;
    }
    assert!(seen > 0);
}
