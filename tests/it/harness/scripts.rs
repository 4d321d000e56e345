//! What is deployed beside the service, run as an operator would.

use std::{
    path::Path,
    process::{Command, Output},
};

use support::postgres::Cluster;

/// A script of `deploy/`, in an environment that names no database of the developer's.
pub(crate) fn script(name: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name));
    for name in ["DATABASE_URL", "MIGRATE_DATABASE_URL", "DATA_DIR", "BACKUP_DIR", "BACKUP_KEEP"] {
        command.env_remove(name).env_remove(format!("{name}_FILE"));
    }
    command.env("DEEPERSENSOR", env!("CARGO_BIN_EXE_deepersensor")).env("JWT_SECRET", super::SECRET);
    command
}

/// Runs it to its end without holding up the tasks of the test.
pub(crate) async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// What it said, on both outputs.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The addresses of a database for its owner and for the service, after `roles.sql`.
pub(crate) struct Roles {
    pub(crate) owner: String,
    pub(crate) app: String,
}

impl Roles {
    /// Runs `deploy/postgres/10-roles.sh` on a database of the shared cluster; roles are the cluster's, so they are called
    /// after the database.
    pub(crate) async fn make(database: &str, scratch: &Path) -> Self {
        Self::try_make(database, scratch).await.unwrap()
    }

    /// With what the operator is told.
    pub(crate) async fn try_make(database: &str, scratch: &Path) -> Result<Self, String> {
        let cluster = Cluster::shared().await.unwrap();
        let (owner, app) = (format!("{database}_owner"), format!("{database}_app"));
        let mut command = script("postgres/10-roles.sh");
        for (name, password) in
            [("OWNER_PASSWORD_FILE", "the owner's, with a quote"), ("APP_PASSWORD_FILE", "the app's")]
        {
            let file = scratch.join(format!("{database}-{name}"));
            std::fs::write(&file, format!("{password}\n")).unwrap();
            command.env(name, file);
        }
        command
            .env("OWNER_ROLE", &owner)
            .env("APP_ROLE", &app)
            .env("POSTGRES_DB", database)
            .env("POSTGRES_USER", "postgres")
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", cluster.addr().port().to_string());
        let done = run(command).await;
        if !done.status.success() {
            return Err(said(&done));
        }
        let url = |role: &str| cluster.url(database).replace("postgres@", &format!("{role}@"));
        Ok(Self { owner: url(&owner), app: url(&app) })
    }
}
