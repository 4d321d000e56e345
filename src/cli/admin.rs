//! `admin`: accounts, managed from the machine that holds the store.
//!
//! Each verb opens the store, does one short transaction and leaves, so it works beside a running service.

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use actors::{
    admin::{AdminError, with_accounts},
    auth::{Administrator, AuthHandle, InviteRequest, SignUp},
    clock::Clock,
    db::UserSearch,
};
use anyhow::{Context, bail};
use chrono::TimeDelta;
use clap::Subcommand;
use domain::{
    account::User, conversation::PAGE_LIMIT_MAX, expiry::LIFE_DAYS_MAX, password::Password, principal::Role,
    secret::Secret,
};

use super::{
    store,
    terminal::{Terminal, harmless, notice},
    usage,
};
use crate::config::Config;

/// A password and its line end are shorter than this, whatever they are encoded as.
const PASSWORD_INPUT_MAX_BYTES: u64 = 4_096;

#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Create an account, one that may administer the service unless told otherwise
    ///
    /// The password is asked for on a terminal, and otherwise read from the first line of standard input.
    Create {
        /// The account's name
        #[arg(long)]
        email: String,
        /// What the account may do
        #[arg(long, default_value = "admin", value_parser = role)]
        role: Role,
        /// Read the password from the first line of this file instead
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Give an account another password and end all its sessions
    ///
    /// The password is asked for on a terminal, and otherwise read from the first line of standard input.
    ResetPassword {
        /// The account's name
        #[arg(long)]
        email: String,
        /// Read the password from the first line of this file instead
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Print the code that whoever signs up with becomes the first administrator, while there is none
    FirstCode,
    /// Make a code that somebody can sign up with, once
    Invite {
        /// What the account may do
        #[arg(long, default_value = "user", value_parser = role)]
        role: Role,
        /// For whom it is, or what for
        #[arg(long)]
        note: Option<String>,
        /// Days that it can be used; without it, until it is revoked
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(LIFE_DAYS_MAX)))]
        days: Option<u16>,
    },
    /// Add up what turns took
    Usage(usage::UsageArgs),
    /// List accounts, newest first
    List {
        /// Only those whose e-mail address contains this
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
}

pub(crate) async fn run(verb: AdminVerb, config: Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let (system, clock) = (config.system, Clock::system());
    let operator = Administrator::default();
    match verb {
        AdminVerb::Create { .. } => store::announce(&system.db),
        _ => store::announce_existing(&system.db)?,
    }
    match verb {
        AdminVerb::Create { email, role, password_file } => {
            let password = obtain_password(password_file.as_deref())?;
            let create = async |auth: &AuthHandle| Ok(auth.create_account(&email, password, role).await?);
            let user = with_accounts::<_, AdminError>(system, clock, create).await?;
            let made = if role == Role::Admin { "administrator" } else { role.as_str() };
            terminal.line(format!("created {made} {} ({})", user.email.as_str(), user.id))?;
        }
        AdminVerb::ResetPassword { email, password_file } => {
            let password = obtain_password(password_file.as_deref())?;
            let reset =
                async |auth: &AuthHandle| Ok(auth.reset_password(&operator, &email, password).await?);
            let user = with_accounts::<_, AdminError>(system, clock, reset).await?;
            terminal.line(format!("changed the password of {} ({})", user.email.as_str(), user.id))?;
        }
        AdminVerb::FirstCode => {
            let first_code = async |auth: &AuthHandle| Ok(auth.first_admin_code().await?);
            match with_accounts::<_, AdminError>(system, clock, first_code).await? {
                Some(code) => terminal.line(code.reveal())?,
                None => bail!("there is an administrator already; `admin invite --role admin` makes a code"),
            }
        }
        AdminVerb::Invite { role, note, days } => {
            if system.auth.sign_up == SignUp::Closed {
                notice("SIGNUP_MODE is closed: this code is refused until it is invite or open");
            }
            let expires_at = days.map(|days| clock.now() + TimeDelta::days(days.into()));
            let wanted = InviteRequest { role, note, expires_at };
            let invite = async |auth: &AuthHandle| Ok(auth.create_invite(&operator, wanted).await?);
            let (_, code) = with_accounts::<_, AdminError>(system, clock, invite).await?;
            terminal.line(code.reveal())?;
        }
        AdminVerb::Usage(args) => usage::run(args, store::to_look_at(system)?, clock, terminal).await?,
        AdminVerb::List { search } => {
            let system = store::to_look_at(system)?;
            with_accounts(system, clock, async |auth| list(auth, search, terminal).await).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each account, page by page.
async fn list(auth: &AuthHandle, text: Option<String>, terminal: Terminal) -> anyhow::Result<()> {
    let mut search = UserSearch { text, before: None, limit: PAGE_LIMIT_MAX };
    loop {
        let page = auth.users(search.clone()).await?;
        for User { id, email, role, disabled, .. } in page.items {
            let state = if disabled { " disabled" } else { "" };
            terminal.line(harmless(&format!("{id} {} {}{state}", role.as_str(), email.as_str())))?;
        }
        match page.next {
            Some(next) => search.before = Some(next.into()),
            None => return Ok(()),
        }
    }
}

fn role(text: &str) -> Result<Role, &'static str> {
    Role::parse(text).ok_or("write user or admin")
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
