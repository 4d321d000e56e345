//! What is PostgreSQL's alone: the settings of its sessions.

use super::PostgresStore;
use crate::db::contract::ground::Ground;

#[tokio::test]
async fn e1_a_commit_waits_for_the_disk_whatever_the_database_is_set_to() {
    let ground = Ground::postgres().await;
    let url = ground.config.database_url.as_ref().unwrap();
    let name = url.reveal().rsplit_once('/').unwrap().1;
    ground.execute(&format!("ALTER DATABASE \"{name}\" SET synchronous_commit = off")).await.unwrap();
    let set = "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'";
    assert_eq!(ground.count(set).await, 1, "of anybody else");

    let store = PostgresStore::open(url, &ground.config).await.unwrap();
    let mut writer = store.writers.acquire().await.unwrap();
    let value: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut *writer).await.unwrap();
    assert_eq!(value, "on");
}
