//! Which store a verb works on, said before it does anything there.

use actors::{
    db::{DbConfig, OldSchema},
    system::SystemConfig,
};
use anyhow::bail;
use http::Uri;

use super::terminal::{harmless, notice};

/// Says it on standard error, for verbs that make a store where there is none.
pub(crate) fn announce(config: &DbConfig) {
    notice(harmless(&format!("store: {}", name(config))));
}

/// Like [`announce`], for verbs that have nothing to do in a store nobody has used.
///
/// # Errors
///
/// There is no store: DATA_DIR is probably another one.
pub(crate) fn announce_existing(config: &DbConfig) -> anyhow::Result<()> {
    if !config.has_store() {
        bail!("there is no store in {}: set DATA_DIR, or start the service first", config.data_dir.display());
    }
    announce(config);
    Ok(())
}

/// The same store, of which nothing is changed by being looked at: not its schema either, and no secret is drawn for it.
///
/// # Errors
///
/// The service's secret is not here: these are not its settings.
pub(crate) fn to_look_at(mut config: SystemConfig) -> anyhow::Result<SystemConfig> {
    if !config.auth.has_secret() {
        let place = config.auth.data_dir.display();
        bail!("JWT_SECRET is not set, and {place} holds none: run this with the settings of the service");
    }
    config.db.old_schema = OldSchema::Refused;
    Ok(config)
}

/// The kind of store and where it is, without credentials.
pub(crate) fn name(config: &DbConfig) -> String {
    match &config.database_url {
        None => format!("SQLite {}", config.data_dir.display()),
        Some(url) => {
            place(url.reveal()).map_or_else(|| "Postgres".to_owned(), |place| format!("Postgres {place}"))
        }
    }
}

/// Host and database of an address; none where a password might have slipped into them.
fn place(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    let host = uri.host()?;
    // A bare slash in a password ends the host too early, and the rest of it would pass for the database. Behind such a
    // host the port would be a piece of it, too.
    (!uri.path().contains('@')).then(|| format!("{host}{}", uri.path()))
}

#[cfg(test)]
mod tests {
    use domain::secret::Secret;

    use super::*;

    #[test]
    fn f04_a_store_is_named_without_its_password() {
        let named = |url: &str| {
            let database_url = Some(Secret::new(url.to_owned()));
            name(&DbConfig { database_url, ..DbConfig::new("./data".into()) })
        };
        assert_eq!(
            named("postgres://ada:canary@db.example:5432/deeper?sslmode=require"),
            "Postgres db.example/deeper"
        );
        assert_eq!(named("postgres://db/deeper?user=ada&password=canary"), "Postgres db/deeper");
        for url in [
            "postgres://ada:can/canary@db/deeper",
            "postgres://ada:can@canary@db/deeper",
            "postgres://ada:can?canary@db/deeper",
            "postgres://ada:can#canary@db/deeper",
            "postgres://ada:canary@/deeper?host=/run",
            "postgres:///deeper?host=/run&password=canary",
        ] {
            assert!(!named(url).contains("can"), "{}", named(url));
        }
        assert_eq!(name(&DbConfig::new("./data".into())), "SQLite ./data");
    }
}
