//! The command line: one verb per file.
//!
//! Results go to standard output, everything else to standard error. Status 0: done; 1: it failed; 2: the command or
//! the configuration is wrong.

mod actors;
mod admin;
mod backup;
mod check_config;
mod client;
mod demo;
mod healthcheck;
mod keys;
mod migrate;
mod serve;
mod signals;
mod store;
mod terminal;
mod usage;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::terminal::{Terminal, notice};
use crate::config::{self, Config, Problems, Sources};

const STATUS_FAILED: u8 = 1;
const STATUS_MISUSED: u8 = 2;

/// A gateway that makes a model server safe to share.
#[derive(Debug, Parser)]
#[command(name = "deepersensor", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// A flat TOML file of settings
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, above all other sources; may be repeated
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the service
    Serve,
    /// Run a service to play with: SQLite, a demo model, a user, and a first chat
    Demo(demo::DemoArgs),
    /// Bring the store's schema up to date, and exit
    Migrate,
    /// Copy a SQLite store to a new file, also beside a running service
    Backup {
        /// The file to make, and FILE.sha256 beside it
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a copy made by `backup` in the place of a SQLite store that no service uses
    Restore {
        /// The copy; FILE.sha256 must lie beside it
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Judge the configuration and print what is in force
    CheckConfig(check_config::CheckConfigArgs),
    /// Ask a running service whether it is ready; the status tells
    Healthcheck,
    /// Manage accounts, also beside a running service
    #[command(subcommand)]
    Admin(admin::AdminVerb),
    /// Rotate and list the keys that sign access tokens, also beside a running service
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Print the live supervision tree of a running service
    Actors(actors::ActorsArgs),
    /// Print the OpenAPI description
    Openapi,
}

/// Parses the command line, does what it says, and tells the process's status.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    let status = runtime.block_on(cli.verb.run(cli.sources.into_sources())).unwrap_or_else(|e| complain(&e));
    // Whoever is still busy was given its time while the verb ended.
    runtime.shutdown_background();
    status
}

impl SourceArgs {
    fn into_sources(self) -> Sources {
        Sources { file: self.config, flags: self.settings, ..Sources::of_process() }
    }
}

impl Verb {
    async fn run(self, sources: Sources) -> anyhow::Result<ExitCode> {
        let terminal = Terminal::stdout();
        match self {
            Self::Serve => serve::run(sources).await,
            Self::Demo(args) => demo::run(args, sources, terminal).await,
            Self::Migrate => migrate::run(Config::load(&sources)?, terminal).await,
            Self::Backup { to } => backup::save(&to, &Config::load(&sources)?, terminal).await,
            Self::Restore { from } => backup::load(&from, &Config::load(&sources)?, terminal).await,
            Self::CheckConfig(args) => check_config::run(&args, &sources, terminal).await,
            Self::Healthcheck => healthcheck::run(&Config::load(&sources)?, terminal).await,
            Self::Admin(verb) => admin::run(verb, Config::load(&sources)?, terminal).await,
            Self::Keys(verb) => keys::run(verb, Config::load(&sources)?, terminal).await,
            Self::Actors(args) => actors::run(&args, &Config::load(&sources)?, terminal).await,
            Self::Openapi => {
                terminal.line(crate::openapi())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// `NAME=VALUE`, but never a secret: arguments can be read by every user of the machine.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let name = name.trim();
    if config::keys::find(name).is_some_and(|key| key.kind == config::keys::Kind::Secret) {
        return Err(format!("{name} is a secret: put it into the environment, .env, or {name}_FILE"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Says on standard error what went wrong.
fn complain(error: &anyhow::Error) -> ExitCode {
    notice(format!("deepersensor: {error:#}"));
    ExitCode::from(if error.is::<Problems>() { STATUS_MISUSED } else { STATUS_FAILED })
}

/// Where a service of this configuration is reached from this machine.
fn local(address: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn secrets_are_not_taken_from_the_command_line() {
        let error = Cli::try_parse_from(["deepersensor", "serve", "--set", "JWT_SECRET=abc"]).unwrap_err();
        assert!(error.to_string().contains("JWT_SECRET_FILE"), "{error}");
        let cli = Cli::try_parse_from(["deepersensor", "serve", "--set", "APP_PORT=1", "--config", "x.toml"]);
        let sources = cli.unwrap().sources.into_sources();
        assert_eq!(sources.flags, [("APP_PORT".to_owned(), "1".to_owned())]);
        assert_eq!(sources.file, Some(PathBuf::from("x.toml")));
    }

    #[test]
    fn a_service_on_all_addresses_is_reached_over_loopback() {
        assert_eq!(local("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(local("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(local("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
