//! `admin`: accounts, managed from the machine that holds the store.
//!
//! Each verb opens the store, does one short transaction and leaves, so it works beside a running service.

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use actors::clock::Clock;
use anyhow::{Context, bail};
use clap::Subcommand;
use domain::{password::Password, principal::Role, secret::Secret};

use super::terminal::Terminal;
use crate::config::Config;

/// A password and its line end are shorter than this, whatever they are encoded as.
const PASSWORD_INPUT_MAX_BYTES: u64 = 4_096;

#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Create an account that may administer the service
    ///
    /// The password is asked for on a terminal, and otherwise read from the first line of standard input.
    Create {
        /// The account's name
        #[arg(long)]
        email: String,
        /// Read the password from the first line of this file instead
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

pub(crate) async fn run(verb: AdminVerb, config: Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    match verb {
        AdminVerb::Create { email, password_file } => {
            let password = obtain_password(password_file.as_deref())?;
            let user =
                actors::admin::create_account(config.system, Clock::system(), &email, password, Role::Admin)
                    .await?;
            terminal.line(format!("created administrator {} ({})", user.email.as_str(), user.id))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// From the file, or asked for twice on a terminal, or else the first line of standard input.
fn obtain_password(file: Option<&Path>) -> anyhow::Result<Password> {
    if let Some(path) = file {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        return first_line(file).with_context(|| format!("no password in {}", path.display()));
    }
    if !std::io::stdin().is_terminal() {
        return first_line(std::io::stdin().lock()).context("no password on standard input");
    }
    let password = Secret::new(rpassword::prompt_password("Password: ")?);
    let again = Secret::new(rpassword::prompt_password("Again: ")?);
    if password != again {
        bail!("the two passwords differ");
    }
    Ok(password)
}

fn first_line(source: impl Read) -> anyhow::Result<Password> {
    let mut text = String::new();
    source.take(PASSWORD_INPUT_MAX_BYTES).read_to_string(&mut text)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => bail!("the first line is empty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_and_keeps_its_blanks() {
        let line = |text: &'static str| first_line(text.as_bytes()).map(Secret::into_inner).ok();
        assert_eq!(line(" four words and blanks \r\nrest"), Some(" four words and blanks ".to_owned()));
        assert_eq!(line("x"), Some("x".to_owned()));
        assert_eq!(line("\nx"), None);
        assert_eq!(line(""), None);
    }
}
