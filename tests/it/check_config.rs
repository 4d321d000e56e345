//! `deepersensor check-config`, and what it finds out without a service.

use std::{fs, process::Command};

use support::{
    fake_ollama::{self, FakeOllama, Model},
    fake_openai::FakeOpenAi,
    process::Scratch,
    redis::Redis,
};
use tokio::task::spawn_blocking;

use crate::harness::{
    Database, MODEL, SECRET, Store, TestApp, both_stores, canaries::UPSTREAM_KEY, scripts::Roles,
};

/// Its status, and what it says on either of its outputs.
async fn check(scratch: &Scratch, settings: &[(&str, &str)], more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
    command.env_clear().env("JWT_SECRET", SECRET).envs(settings.iter().copied());
    command.arg("check-config").args(more).current_dir(scratch.path());
    // What it asks lives on this thread.
    let output = spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(!said.contains(SECRET), "{said}");
    (output.status.code(), said)
}

both_stores! {
    async fn connecting_tells_of_each_dependency_what_it_is_and_writes_nothing(store) {
        let scratch = Scratch::new("check", None).unwrap();
        let data_dir = scratch.path().join("data");
        let database = Database::make(store, &data_dir).await;
        let ollama = FakeOllama::start(fake_ollama::Config::with([Model::new(MODEL)])).await.unwrap();
        let redis = Redis::start().await.unwrap();
        let (ollama, redis, data_dir) = (ollama.url(), redis.url(), data_dir.display().to_string());
        let mut settings = vec![("OLLAMA_BASE_URL", &*ollama), ("REDIS_URL", &redis), ("DATA_DIR", &data_dir)];
        if let Database::Postgres { url, .. } = &database {
            settings.push(("DATABASE_URL", url));
        }
        let (status, said) = check(&scratch, &settings, &["--connect"]).await;
        assert_eq!(status, Some(0), "{said}");
        // A database of Postgres is made with its schema.
        let (name, schema) = match store {
            Store::Sqlite => ("SQLite", "answers, no schema yet"),
            Store::Postgres => ("Postgres", "answers, schema 5"),
        };
        let lines: Vec<&str> = said.lines().collect();
        let line = |start: &str| *lines.iter().rfind(|line| line.starts_with(start)).unwrap();
        assert!(line(name).ends_with(schema), "{said}");
        assert!(line("Redis").ends_with("answers"), "{said}");
        assert!(line("Ollama").contains("answers, version ") && line("Ollama").ends_with("1 models"), "{said}");
        assert!(!scratch.path().join("data/deepersensor.db").exists(), "only looked at");
        database.remove().await;
    }

    async fn a_store_in_use_tells_its_schema_beside_the_running_service(store) {
        let app = TestApp::on(store).await;
        let scratch = Scratch::new("check", None).unwrap();
        let (ollama, data_dir) = (app.ollama.url(), app.data_dir().display().to_string());
        let mut settings = vec![("OLLAMA_BASE_URL", &*ollama), ("DATA_DIR", &data_dir)];
        if let Database::Postgres { url, .. } = &app.database {
            settings.push(("DATABASE_URL", url));
        }
        let (status, said) = check(&scratch, &settings, &["--connect"]).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("answers, schema ") && !said.contains("warning"), "{said}");

        // Of a later release, on which this one works.
        app.database.texts(&later_migration(store)).await;
        let (status, said) = check(&scratch, &settings, &["--connect"]).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("answers, schema 9999, newer than this binary's 5, which works on it"), "{said}");
        assert!(!said.contains("warning"), "{said}");

        app.database.texts("UPDATE _sqlx_migrations SET success = false WHERE version = 9999").await;
        let (status, said) = check(&scratch, &settings, &["--connect"]).await;
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("the service does not start on its schema: migration 9999"), "{said}");
        app.finish().await;
    }
}

fn later_migration(store: Store) -> String {
    let (checksum, time) = match store {
        Store::Postgres => ("'\\x01'::bytea", "now()"),
        Store::Sqlite => ("x'01'", "CURRENT_TIMESTAMP"),
    };
    format!(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (9999, 'of a later release', {time}, true, {checksum}, 0)"
    )
}

#[tokio::test]
async fn e06_an_older_schema_is_told_with_who_may_bring_it_up_to_date() {
    let scratch = Scratch::new("check", None).unwrap();
    let ollama = FakeOllama::start(fake_ollama::Config::with([Model::new(MODEL)])).await.unwrap();
    let database = Database::make(Store::Postgres, &scratch.path().join("data")).await;
    let Database::Postgres { name, .. } = &database else { unreachable!() };
    let roles = Roles::make(name, scratch.path()).await;
    database.texts("DELETE FROM _sqlx_migrations WHERE version = 3").await;
    let ollama = ollama.url();
    let app: &[_] = &[("OLLAMA_BASE_URL", &*ollama), ("DATABASE_URL", &roles.app)];
    let with_owner = [app, &[("MIGRATE_DATABASE_URL", &*roles.owner)]].concat();
    let owner = [("OLLAMA_BASE_URL", &*ollama), ("DATABASE_URL", &roles.owner)];
    for settings in [&with_owner[..], &owner] {
        let (status, said) = check(&scratch, settings, &["--connect"]).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("warning: its schema is older than this binary: the next start, or"), "{said}");
    }
    let (status, said) = check(&scratch, app, &["--connect"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the service does not start before `deepersensor migrate`"), "{said}");
    database.remove().await;
}

#[tokio::test]
async fn what_does_not_answer_is_told_with_the_rest_and_fails_the_check() {
    let scratch = Scratch::new("check", None).unwrap();
    // Nobody listens on the first port.
    let settings = [
        ("OLLAMA_BASE_URL", "http://127.0.0.1:1"),
        ("REDIS_URL", "redis://:canary@127.0.0.1:1/0"),
        ("DATABASE_URL", "postgres://ada:canary@127.0.0.1:1/none"),
    ];
    let (status, said) = check(&scratch, &settings, &["--connect"]).await;
    assert_eq!(status, Some(1), "{said}");
    for name in ["Postgres", "Redis", "Ollama http://127.0.0.1:1"] {
        let line = said.lines().rfind(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("cannot"), "{line}");
    }
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test]
async fn a_directory_that_will_not_do_is_found_before_the_start_and_none_is_made() {
    let scratch = Scratch::new("check", None).unwrap();
    let (status, said) = check(&scratch, &[("DATA_DIR", "not/there/yet")], &[]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(!scratch.path().join("not").exists());
    fs::write(scratch.path().join("file"), "").unwrap();
    let (status, said) = check(&scratch, &[("DATA_DIR", "file/data")], &[]).await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("DATA_DIR: file is no directory\n    fix: "), "{said}");
}

#[tokio::test]
async fn g05_a_model_server_with_known_holes_is_warned_of_before_the_start() {
    let scratch = Scratch::new("check", None).unwrap();
    let config = fake_ollama::Config {
        version: "0.17.0".to_owned(),
        ..fake_ollama::Config::with([Model::new(MODEL)])
    };
    let ollama = FakeOllama::start(config).await.unwrap();
    let (status, said) = check(&scratch, &[("OLLAMA_BASE_URL", &ollama.url())], &["--connect"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("answers, version 0.17.0, 1 models"), "{said}");
    assert!(said.contains("warning: it has known security holes, 0.17.1 or newer has not"), "{said}");
}

#[tokio::test]
async fn a_server_of_openais_dialect_is_asked_for_its_models_with_its_key() {
    let scratch = Scratch::new("check", None).unwrap();
    let config = fake_ollama::Config::with([Model::new(MODEL)]);
    let hosted = FakeOpenAi::start(config, Some(UPSTREAM_KEY)).await.unwrap();
    let upstreams = format!("hosted openai {}", hosted.url());
    let asked = async |keys: &str| {
        let settings = [("UPSTREAMS", &*upstreams), ("UPSTREAM_API_KEYS", keys)];
        let (status, said) = check(&scratch, &settings, &["--connect"]).await;
        assert!(!said.contains("sk-"), "{said}");
        let line =
            said.lines().rfind(|line| line.starts_with("OpenAI http://")).unwrap_or_else(|| panic!("{said}"));
        (status, line.to_owned())
    };
    let (status, line) = asked(&format!("hosted={UPSTREAM_KEY}")).await;
    assert!(status == Some(0) && line.ends_with("answers, 1 models"), "{line}");
    let (status, line) = asked("hosted=sk-upstream-wrong").await;
    assert!(status == Some(1) && line.ends_with("status 401: it refuses our key"), "{line}");
}
