//! Two roles of one database: its owner migrates, and the service makes do with the rights to rows.

use std::process::Command;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use support::{postgres::Cluster, process::Scratch};

use crate::{
    harness::{
        MODEL, Options, SECRET, Store, TestApp,
        scripts::{Roles, run, said},
    },
    turn::prompt,
};

/// An empty database with its roles.
async fn empty(name: &str, scratch: &Scratch) -> Roles {
    Cluster::shared().await.unwrap().create_database(name).await.unwrap();
    Roles::make(name, scratch.path()).await
}

/// The command with these addresses, on data of its own.
fn command(verb: &str, scratch: &Scratch, addresses: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
    command.args(verb.split(' ')).env_clear().current_dir(scratch.path()).envs(addresses.iter().copied());
    command.env("APP_PORT", "0").env("OPS_BIND", "127.0.0.1:0").env("OLLAMA_BASE_URL", "http://127.0.0.1:9");
    command
}

async fn refusal(url: &str, sql: &str) -> String {
    let mut db = PgConnection::connect(url).await.unwrap();
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await {
        Ok(_) => panic!("{sql} is allowed"),
        Err(error) => error.as_database_error().unwrap().code().unwrap().into_owned(),
    }
}

async fn number(url: &str, sql: &str) -> i64 {
    let mut db = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap()
}

/// What `role` may do with the table.
async fn rights(url: &str, table: &str) -> String {
    let mut db = PgConnection::connect(url).await.unwrap();
    let all = "SELECT coalesce(string_agg(right_, ' '), '') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', \
               'TRUNCATE', 'TRIGGER']) AS right_ WHERE has_table_privilege($1, right_)";
    sqlx::query_scalar(all).bind(table).fetch_one(&mut db).await.unwrap()
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

#[tokio::test]
async fn a19_the_whole_service_works_by_a_role_that_can_neither_change_the_schema_nor_the_audit_trail() {
    let options = Options::on(Store::Postgres).by_the_app_role();
    let app = TestApp::start(options).await;
    let admin = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let told = app.chat(&ada, &prompt(MODEL, "hello")).send().await.expect_status(200).json();
    assert_eq!(told["stored"], true);
    let mut events = app.ask(&ada, &prompt(MODEL, "as a stream")).await;
    assert_eq!(events.last().await.data["stored"], true);
    let listed = app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let (key, text) = app.create_key(&ada, "chat models").await;
    app.get("/v1/models").bearer(&text).send().await.expect_status(200);
    app.call("DELETE", &format!("/v1/api-keys/{key}")).bearer(&ada.access).send().await.expect_status(204);
    let refreshed = app.post("/v1/auth/refresh", &json!({ "refresh_token": ada.refresh }));
    refreshed.send().await.expect_status(200);
    let eve = app.sign_up_and_in("eve@example.org").await;
    let user = format!("/v1/admin/users/{}", eve.user);
    let change = app.call("PATCH", &user).json(&json!({ "disabled": true }));
    change.bearer(&admin.access).send().await.expect_status(200);
    app.call("DELETE", &user).bearer(&admin.access).send().await.expect_status(204);
    app.post("/v1/auth/login", &json!({ "email": "ada@example.org", "password": "wrong" }))
        .send()
        .await
        .expect_status(401);
    app.post("/v1/admin/invites", &json!({})).bearer(&admin.access).send().await.expect_status(201);
    app.rotate_key(None).await;
    let audit =
        app.get("/v1/admin/audit?limit=100").bearer(&admin.access).send().await.expect_status(200).json();
    let events: Vec<_> = audit["data"].as_array().unwrap().iter().map(|entry| &entry["event"]).collect();
    for event in ["user_created", "authn_login_success", "authn_login_fail", "user_deleted"] {
        assert!(events.contains(&&json!(event)), "{event} is not in {events:?}");
    }

    let url = app.database_url().to_owned();
    assert_eq!(number(&url, "SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").await, 0);
    for ddl in [
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE conversations",
        "ALTER TABLE users ADD COLUMN mine int",
        "CREATE INDEX mine ON users (created_at)",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_log_is_never_changed ON audit_log",
        "DROP FUNCTION refuse_audit_change()",
        "TRUNCATE users CASCADE",
        "SET session_replication_role = replica",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "UPDATE audit_log SET event = 'nothing'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DELETE FROM _sqlx_migrations",
        "GRANT UPDATE ON audit_log TO PUBLIC; UPDATE audit_log SET event = 'nothing'",
    ] {
        assert_eq!(refusal(&url, ddl).await, INSUFFICIENT_PRIVILEGE, "{ddl}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a19_migrations_of_the_owner_leave_the_app_role_no_more_than_it_needs() {
    let scratch = Scratch::new("roles", None).unwrap();
    let roles = empty("roles_fresh", &scratch).await;
    let both = [("DATABASE_URL", roles.app.as_str()), ("MIGRATE_DATABASE_URL", &roles.owner)];
    let migrated = run(command("migrate", &scratch, &both)).await;
    assert!(migrated.status.success(), "{}", said(&migrated));
    assert_eq!(rights(&roles.app, "users").await, "SELECT INSERT UPDATE DELETE");
    assert_eq!(rights(&roles.app, "audit_log").await, "SELECT INSERT");
    assert_eq!(rights(&roles.app, "_sqlx_migrations").await, "SELECT");

    // Tables of later migrations are covered, and nothing comes back.
    let mut owner = PgConnection::connect(&roles.owner).await.unwrap();
    sqlx::raw_sql("CREATE TABLE later (id int); GRANT UPDATE, DELETE ON audit_log TO PUBLIC")
        .execute(&mut owner)
        .await
        .unwrap();
    assert_eq!(rights(&roles.app, "later").await, "SELECT INSERT UPDATE DELETE");
    assert_eq!(rights(&roles.app, "audit_log").await, "SELECT INSERT UPDATE DELETE");
    assert!(run(command("migrate", &scratch, &both)).await.status.success());
    assert_eq!(rights(&roles.app, "audit_log").await, "SELECT INSERT");
    // Again, on what is there now.
    Roles::make("roles_fresh", scratch.path()).await;
    assert_eq!(rights(&roles.app, "audit_log").await, "SELECT INSERT");
    assert_eq!(rights(&roles.app, "later").await, "SELECT INSERT UPDATE DELETE");

    // On a current schema the service needs the owner no more.
    let alone = [("DATABASE_URL", roles.app.as_str())];
    for verb in ["migrate", "admin invite", "admin list", "keys list"] {
        let done = run(command(verb, &scratch, &alone)).await;
        assert!(done.status.success(), "{verb}: {}", said(&done));
    }
}

#[tokio::test]
async fn e06_by_the_app_role_an_old_schema_ends_the_start_with_what_to_do() {
    let scratch = Scratch::new("roles", None).unwrap();
    let roles = empty("roles_old", &scratch).await;
    let alone = [("DATABASE_URL", roles.app.as_str())];
    for verb in ["serve", "migrate", "admin invite"] {
        let refused = run(command(verb, &scratch, &alone)).await;
        assert_eq!(refused.status.code(), Some(1), "{verb}");
        let told = said(&refused);
        assert!(told.contains("run `deepersensor migrate` with MIGRATE_DATABASE_URL"), "{verb}: {told}");
    }
    let looked = run(command("admin list", &scratch, &alone)).await;
    assert!(said(&looked).contains("JWT_SECRET is not set"), "looking draws no secret: {}", said(&looked));
    let with_secret = [alone[0], ("JWT_SECRET", SECRET)];
    let looked = run(command("admin list", &scratch, &with_secret)).await;
    assert!(said(&looked).contains("run `deepersensor migrate` first"), "{}", said(&looked));

    let other = empty("roles_other", &scratch).await;
    let both = [("DATABASE_URL", roles.app.as_str()), ("MIGRATE_DATABASE_URL", &other.owner)];
    let refused = run(command("serve", &scratch, &both)).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("name the same database in both"), "{}", said(&refused));
}

#[tokio::test]
async fn roles_that_are_mightier_than_they_look_are_refused() {
    let cluster = Cluster::shared().await.unwrap();
    let scratch = Scratch::new("roles", None).unwrap();
    cluster.create_database("roles_mighty").await.unwrap();
    cluster.run("CREATE ROLE roles_mighty_app CREATEDB").await.unwrap();
    let refused = Roles::try_make("roles_mighty", scratch.path()).await.err().unwrap();
    assert!(refused.contains("roles_mighty_app has rights beyond this database"), "{refused}");
    let made = "SELECT count(*) FROM pg_roles WHERE rolname = 'roles_mighty_owner'";
    assert_eq!(number(&cluster.url("postgres"), made).await, 0, "all or nothing");
}

/// As superuser in the database.
async fn by_superuser(database: &str, sql: &str) {
    let mut db = PgConnection::connect(&Cluster::shared().await.unwrap().url(database)).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
}

#[tokio::test]
async fn a19_what_an_older_app_role_was_granted_is_taken_from_it() {
    let scratch = Scratch::new("roles", None).unwrap();
    let cluster = Cluster::shared().await.unwrap();
    cluster.create_database("roles_granted").await.unwrap();
    cluster.run("CREATE ROLE roles_granted_app; CREATE ROLE roles_granted_friend").await.unwrap();
    let granted = "GRANT ALL ON DATABASE roles_granted TO roles_granted_app WITH GRANT OPTION; \
                   GRANT ALL ON SCHEMA public TO roles_granted_app WITH GRANT OPTION; \
                   SET ROLE roles_granted_app; \
                   GRANT CREATE ON SCHEMA public TO roles_granted_friend; \
                   ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO roles_granted_friend";
    by_superuser("roles_granted", granted).await;
    let roles = Roles::make("roles_granted", scratch.path()).await;
    for ddl in [
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        assert_eq!(refusal(&roles.app, ddl).await, INSUFFICIENT_PRIVILEGE, "{ddl}");
    }

    // By what else it could make things.
    by_superuser("roles_granted", "CREATE SCHEMA other; GRANT CREATE ON SCHEMA other TO PUBLIC").await;
    let refused = Roles::try_make("roles_granted", scratch.path()).await.err().unwrap();
    assert!(refused.contains("roles_granted_app may make things in the schema other"), "{refused}");
}

#[tokio::test]
async fn a19_what_an_older_app_role_made_is_refused_and_never_handed_to_the_owner() {
    let scratch = Scratch::new("roles", None).unwrap();
    Cluster::shared().await.unwrap().create_database("roles_made").await.unwrap();
    let roles = Roles::make("roles_made", scratch.path()).await;
    let both = [("DATABASE_URL", roles.app.as_str()), ("MIGRATE_DATABASE_URL", &roles.owner)];
    assert!(run(command("migrate", &scratch, &both)).await.status.success());
    for (made, what) in [
        ("CREATE TABLE public.mine (id int)", "table mine"),
        ("CREATE VIEW public.mine AS SELECT 1", "view mine"),
        // Names are no statements of the superuser who runs the script.
        (
            r#"CREATE TABLE public."$refusal$; %'\ COMMIT; --" (id int)"#,
            r#"table "$refusal$; %'\ COMMIT; --""#,
        ),
        ("CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function mine()"),
        ("CREATE SCHEMA mine", "schema mine"),
        ("SELECT lo_create(4711)", "large object 4711"),
    ] {
        let able = "GRANT ALL ON DATABASE roles_made TO roles_made_app; GRANT ALL ON SCHEMA public TO roles_made_app; \
                    GRANT EXECUTE ON FUNCTION lo_create(oid) TO roles_made_app; SET ROLE roles_made_app; ";
        by_superuser("roles_made", &format!("{able}{made}")).await;
        let refused = Roles::try_make("roles_made", scratch.path()).await.err().unwrap();
        assert!(refused.contains(&format!("roles_made_app owns {what}: drop it first")), "{refused}");
        by_superuser("roles_made", "DROP OWNED BY roles_made_app").await;
    }
    let roles = Roles::make("roles_made", scratch.path()).await;
    assert_eq!(rights(&roles.app, "audit_log").await, "SELECT INSERT");
}

#[tokio::test]
async fn a19_a_database_that_one_role_served_so_far_goes_over_to_the_owner() {
    let scratch = Scratch::new("roles", None).unwrap();
    let cluster = Cluster::shared().await.unwrap();
    cluster.create_database("roles_single").await.unwrap();
    cluster.run("CREATE ROLE roles_single_app LOGIN").await.unwrap();
    by_superuser("roles_single", "ALTER DATABASE roles_single OWNER TO roles_single_app").await;
    by_superuser("roles_single", "ALTER SCHEMA public OWNER TO roles_single_app").await;
    let url = cluster.url("roles_single").replace("postgres@", "roles_single_app@");
    let migrated = run(command("migrate", &scratch, &[("DATABASE_URL", &url)])).await;
    assert!(migrated.status.success(), "{}", said(&migrated));
    let roles = Roles::make("roles_single", scratch.path()).await;
    let owned = "SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole AND relkind = 'r'";
    assert_eq!(number(&roles.app, owned).await, 0);
    assert!(number(&roles.owner, owned).await > 0);
    assert_eq!(rights(&roles.app, "audit_log").await, "SELECT INSERT");
    assert_eq!(refusal(&roles.app, "CREATE TABLE mine (id int)").await, INSUFFICIENT_PRIVILEGE);
}
