//! `keys`: which keys sign access tokens.
//!
//! Each verb opens the store, does one short transaction and leaves, so it works beside a running service.

use std::{fmt::Write as _, process::ExitCode};

use actors::{
    admin::{AdminError, with_accounts},
    auth::{Administrator, AuthHandle, ListedKey},
    clock::Clock,
};
use chrono::SecondsFormat;
use clap::Subcommand;
use domain::signing_key::SigningAlgorithm;

use super::{store, terminal::Terminal};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// Make the next key; it signs once every verifier can know it
    Rotate {
        /// HS256 or EdDSA; without it the newest key's
        ///
        /// Change JWT_ALGORITHM too, or the next start makes a key of that algorithm again.
        #[arg(long, value_parser = algorithm)]
        algorithm: Option<SigningAlgorithm>,
    },
    /// Print every key there has been, oldest first
    List,
}

pub(crate) async fn run(verb: KeysVerb, config: Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    store::announce_existing(&config.system.db)?;
    match verb {
        KeysVerb::Rotate { algorithm } => {
            let rotate = async |auth: &AuthHandle| {
                Ok(auth.rotate_signing_key(&Administrator::default(), algorithm).await?)
            };
            let made = with_accounts::<_, AdminError>(config.system, Clock::system(), rotate).await?;
            let algorithm = made.key.algorithm.as_str();
            terminal.line(format!("key {} ({algorithm}) signs from {}", made.key.kid, signs_from(&made)))?;
        }
        KeysVerb::List => {
            let list = async |auth: &AuthHandle| Ok(auth.signing_keys().await?);
            let system = store::to_look_at(config.system)?;
            let keys = with_accounts::<_, AdminError>(system, Clock::system(), list).await?;
            terminal.write(table(&keys))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn algorithm(text: &str) -> Result<SigningAlgorithm, &'static str> {
    SigningAlgorithm::parse(text).ok_or("give HS256 or EdDSA")
}

fn signs_from(listed: &ListedKey) -> String {
    listed.key.signs_from.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn table(keys: &[ListedKey]) -> String {
    let mut text = format!("{:11}  {:9}  {:9}  signs from\n", "kid", "algorithm", "state");
    for listed in keys {
        let (algorithm, state) = (listed.key.algorithm.as_str(), listed.state.as_str());
        let _ = writeln!(text, "{:11}  {algorithm:9}  {state:9}  {}", listed.key.kid, signs_from(listed));
    }
    text
}
