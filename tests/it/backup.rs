//! Backups as an operator makes them, beside a running service, and what comes back.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use domain::secret::Secret;
use support::{postgres::Cluster, process::Scratch};

use crate::{
    harness::{
        Database, MODEL, Options, Store, TestApp, both_stores,
        scripts::{Roles, run, said, script},
    },
    turn::prompt,
};

const TABLES: [&str; 7] =
    ["users", "sessions", "conversations", "messages", "turns", "audit_log", "signing_keys"];

async fn rows(database: &Database) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(database.number(&format!("SELECT count(*) FROM {table}")).await);
    }
    counts
}

/// A script that finds the service's store.
fn on_store_of(app: &TestApp, name: &str) -> Command {
    let mut command = script(name);
    match &app.database {
        Database::Postgres { url, .. } => command.env("DATABASE_URL", url),
        Database::Sqlite(_) => command.env("DATA_DIR", app.data_dir()),
    };
    command
}

/// Makes a backup in `directory` and returns its name.
async fn backed_up(app: &TestApp, directory: &Path) -> PathBuf {
    let mut command = on_store_of(app, "backup.sh");
    command.arg(directory);
    let done = run(command).await;
    assert!(done.status.success(), "{}", said(&done));
    PathBuf::from(String::from_utf8(done.stdout).unwrap().trim_end())
}

both_stores! {
    async fn e08_a_backup_made_beside_the_service_brings_back_every_row_and_lets_people_in(store) {
        use std::os::unix::fs::PermissionsExt as _;
        let mut app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let bob = app.sign_up_and_in("bob@example.org").await;
        let told = app.chat(&ada, &prompt(MODEL, "keep this")).send().await.expect_status(200).json();
        app.quiet().await;
        let before = rows(&app.database).await;
        let scratch = Scratch::new("backup", None).unwrap();
        let backup = backed_up(&app, scratch.path()).await;
        for file in [backup.clone(), backup.with_added_extension("sha256")] {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        // Later than the backup, and not in it.
        let eve = app.sign_up_and_in("eve@example.org").await;
        let refresh = |token: &str| {
            app.post("/v1/auth/refresh", &serde_json::json!({ "refresh_token": token }))
        };
        let newer = refresh(&bob.refresh).send().await.expect_status(200).json();

        let mut back = on_store_of(&app, "restore.sh");
        back.arg(&backup);
        let refused = run(back).await;
        let (status, why) = if store == Store::Sqlite { (1, "stop it first") } else { (3, "the database has tables") };
        assert_eq!(refused.status.code(), Some(status), "{}", said(&refused));
        assert!(said(&refused).contains(why), "{}", said(&refused));
        app.stop().await;

        let restored = match &app.database {
            Database::Sqlite(path) => Database::Sqlite(path.clone()),
            Database::Postgres { name, .. } => {
                let (cluster, name) = (Cluster::shared().await.unwrap(), format!("{name}_restored"));
                cluster.create_database(&name).await.unwrap();
                let roles = Roles::make(&name, scratch.path()).await;
                app.reconfigure(|config| {
                    config.system.db.migrate_url = Some(Secret::new(roles.owner));
                    config.system.db.database_url = Some(Secret::new(roles.app));
                });
                Database::Postgres { url: cluster.url(&name), name }
            }
        };
        let mut back = script("restore.sh");
        back.arg(&backup);
        match &app.database {
            Database::Sqlite(_) => back.env("DATA_DIR", app.data_dir()),
            Database::Postgres { .. } => {
                let db = app.database_config();
                back.env("MIGRATE_DATABASE_URL", db.migrate_url.as_ref().unwrap().reveal());
                back.env("DATABASE_URL", db.database_url.as_ref().unwrap().reveal())
            }
        };
        let done = run(back).await;
        assert!(done.status.success(), "{}", said(&done));
        assert_eq!(rows(&restored).await, before, "{TABLES:?}");

        app.restart(|_| ()).await;
        // What the backup does not know lets nobody in, whatever the time it has left.
        let status = async |token: &str| app.get("/v1/conversations").bearer(token).send().await.status;
        let newer = |name: &str| newer[name].as_str().unwrap().to_owned();
        let refresh = async |token: &str| {
            let body = serde_json::json!({ "refresh_token": token });
            app.post("/v1/auth/refresh", &body).send().await.status
        };
        assert_eq!([status(&ada.access).await, status(&eve.access).await], [200, 401]);
        assert_eq!([status(&bob.access).await, status(&newer("access_token")).await], [200, 401]);
        assert_eq!([refresh(&newer("refresh_token")).await, refresh(&eve.refresh).await], [401, 401]);
        assert_eq!(refresh(&bob.refresh).await, 200, "used before, which the backup does not know either");
        let ada = app.sign_in("ada@example.org", &ada.user).await;
        let kept = app.conversation(&ada, &told["conversation_id"]).await;
        assert_eq!(kept["messages"][0]["content"], prompt(MODEL, "keep this")["messages"][0]["content"]);
        let credentials = serde_json::json!({ "email": "eve@example.org", "password": crate::harness::PASSWORD });
        app.post("/v1/auth/login", &credentials).send().await.expect_status(401);
        if let Database::Postgres { .. } = &restored {
            let app_role = app.database_url();
            let forbidden = "SELECT count(*) FROM users WHERE has_table_privilege(current_user, 'audit_log', 'UPDATE')";
            let by_app = Database::Postgres { name: String::new(), url: app_role.to_owned() };
            assert_eq!(by_app.number(forbidden).await, 0);
        }
        app.finish().await;
        if let Database::Postgres { .. } = &restored {
            restored.remove().await;
        }
    }

    async fn old_backups_go_others_stay_and_nothing_is_ever_overwritten(store) {
        let app = TestApp::start(Options::on(store)).await;
        app.sign_up_and_in("ada@example.org").await;
        let scratch = Scratch::new("backup", None).unwrap();
        let ending = if store == Store::Sqlite { "db" } else { "dump" };
        let old = |day: u8| scratch.path().join(format!("deepersensor-202001{day:02}T000000Z.{ending}"));
        for day in 1..=3 {
            fs::write(old(day), "old").unwrap();
            fs::write(old(day).with_added_extension("sha256"), "old").unwrap();
        }
        let others = scratch.path().join("somebody-elses.db");
        fs::write(&others, "theirs").unwrap();
        let mut command = on_store_of(&app, "backup.sh");
        command.arg(scratch.path()).env("BACKUP_KEEP", "2");
        let done = run(command).await;
        assert!(done.status.success(), "{}", said(&done));
        let made = PathBuf::from(String::from_utf8(done.stdout).unwrap().trim_end());
        let kept = |file: &Path| file.exists() && (file == others || file.with_added_extension("sha256").exists());
        assert!(kept(&made) && kept(&old(3)) && kept(&others));
        assert!(!old(1).exists() && !old(2).exists() && !old(2).with_added_extension("sha256").exists());
        let partial = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains("partial");
        assert!(!fs::read_dir(scratch.path()).unwrap().map(Result::unwrap).any(partial));

        // A bit is enough.
        let mut bytes = fs::read(&made).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let changed = scratch.path().join(format!("changed.{ending}"));
        fs::write(&changed, bytes).unwrap();
        fs::copy(made.with_added_extension("sha256"), changed.with_added_extension("sha256")).unwrap();
        let mut back = on_store_of(&app, "restore.sh");
        back.arg(&changed);
        let refused = run(back).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("its SHA-256 is another one"), "{}", said(&refused));
        app.finish().await;
    }
}

#[tokio::test]
async fn b13_no_piece_of_a_password_stands_among_the_arguments_of_a_backup() {
    let told = |url: &str| {
        let mut command = Command::new("bash");
        let shown =
            r#"source deploy/lib/database.sh; connect_to "$URL"; printf '%s %s' "$database" "$PGPASSWORD""#;
        command.args(["-c", shown]).current_dir(env!("CARGO_MANIFEST_DIR")).env("URL", url);
        run(command)
    };
    for (authority, password) in [
        ("u:plain@h:5", "plain"),
        (r"u:a\n\x41%5c%5C@h:5", r"a\n\x41\\"),
        ("u:100%@h:5", "100%"),
        ("u:%2525%c3%a4%2F@h:5", "%25\u{e4}/"),
        ("u:a@b:c@h:5", "a@b:c"),
        ("u:@h:5", ""),
    ] {
        let done = told(&format!("postgres://{authority}/db?sslmode=require")).await;
        assert!(done.status.success(), "{authority}: {}", said(&done));
        assert_eq!(said(&done), format!("postgresql://u@h:5/db?sslmode=require {password}"), "{authority}");
    }
    for url in [
        "postgres://u:pa/zz@h/db",
        "postgres://u:pa?zz@h/db",
        "postgres://u@h/db?password=zz",
        "postgres://u@h?a=b&password=zz",
        "postgres://u@h/db?sslpassword=zz",
        "postgres://u@h/db?%70assword=zz",
        "postgres://u@h/db?a=b&p%61ssword=zz",
        "host=h user=u password=zz",
    ] {
        let refused = told(url).await;
        assert_eq!(refused.status.code(), Some(2), "{url}: {}", said(&refused));
        assert!(!said(&refused).contains("zz"), "{url}: {}", said(&refused));
    }
}

#[tokio::test]
async fn a_backup_follows_no_link_and_goes_into_nobody_elses_directory() {
    let app = TestApp::on(Store::Sqlite).await;
    let scratch = Scratch::new("backup", None).unwrap();
    let target = scratch.path().join("target");
    fs::write(&target, "theirs").unwrap();
    let ours = scratch.path().join("ours");
    fs::create_dir(&ours).unwrap();
    symlink(&target, ours.join(".lock")).unwrap();
    // Only root can give a directory away; to anybody else root's own is somebody else's.
    let given = scratch.path().join("given");
    fs::create_dir(&given).unwrap();
    let foreign = if chown(&given, Some(65_534), None).is_ok() { given.as_path() } else { Path::new("/") };
    for (directory, why) in [(ours.as_path(), "is a link"), (foreign, "belongs to somebody else")] {
        let mut command = on_store_of(&app, "backup.sh");
        command.arg(directory);
        let refused = run(command).await;
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(why), "{}", said(&refused));
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");

    let lock = ours.join(".lock");
    fs::remove_file(&lock).unwrap();
    fs::write(&lock, "kept").unwrap();
    backed_up(&app, &ours).await;
    assert_eq!(fs::read_to_string(&lock).unwrap(), "kept");
    app.finish().await;
}

#[tokio::test]
async fn a_sqlite_store_that_was_replaced_stays_beside_the_one_that_came_back() {
    let mut app = TestApp::on(Store::Sqlite).await;
    app.sign_up_and_in("ada@example.org").await;
    let scratch = Scratch::new("backup", None).unwrap();
    let to = scratch.path().join("a.db");
    let name = to.to_str().unwrap();
    let data_dir = app.data_dir().to_owned();
    let verb = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
        command.args(arguments).env_clear().env("DATA_DIR", &data_dir).current_dir(scratch.path());
        run(command)
    };
    assert!(verb(&["backup", "--to", name]).await.status.success());
    let again = verb(&["backup", "--to", name]).await;
    assert!(
        said(&again).contains("nothing is overwritten") && again.status.code() == Some(1),
        "{}",
        said(&again)
    );
    app.sign_up_and_in("eve@example.org").await;
    app.stop().await;
    let done = verb(&["restore", "--from", name]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(app.database.number("SELECT count(*) FROM users").await, 1);
    let aside = said(&done)
        .lines()
        .find_map(|line| line.strip_prefix("what was there before is "))
        .unwrap()
        .to_owned();
    assert_eq!(Database::Sqlite(aside.into()).number("SELECT count(*) FROM users").await, 2);

    // Foreign files do not get there.
    let text = scratch.path().join("text.db");
    fs::write(&text, "no database").unwrap();
    let sum = run({
        let mut command = Command::new("sha256sum");
        command.arg("text.db").current_dir(scratch.path());
        command
    });
    fs::write(text.with_added_extension("sha256"), sum.await.stdout).unwrap();
    let refused = verb(&["restore", "--from", text.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(app.database.number("SELECT count(*) FROM users").await, 1, "{}", said(&refused));
    app.finish().await;
}

#[tokio::test]
async fn a_store_is_not_restored_by_somebody_whose_files_its_owner_could_not_open() {
    let app = TestApp::on(Store::Sqlite).await;
    let scratch = Scratch::new("owner", None).unwrap();
    let backup = backed_up(&app, scratch.path()).await;
    let theirs = scratch.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    // Only root may give a directory away; elsewhere there is nothing to refuse.
    if chown(&theirs, Some(65_534), Some(65_534)).is_ok() {
        let mut command = script("restore.sh");
        command.env("DATA_DIR", &theirs).arg(&backup);
        let done = run(command).await;
        assert!(!done.status.success() && said(&done).contains("another user"), "{}", said(&done));
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0, "nothing was made there");
    }
    app.finish().await;
}
