//! `actors --watch`: what happens to the tree, in a line each, as it happens.
//!
//! # When it breaks
//!
//! A service that stops or is away is looked for again, each second at first and each ten seconds in the end, until somebody
//! ends the watch. News that came meanwhile follow, if the service has kept them.

use std::{io, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use http::Method;
use serde::Deserialize;
use tokio::time::sleep;

use super::{
    actors::{NO_SERVICE, Tree},
    client::{Client, Events},
    terminal::{Terminal, harmless},
};

/// A service that says nothing for so long is gone: it says that it is there every 15 s.
pub(super) const SILENCE: Duration = Duration::from_secs(40);

/// News from before the watch began.
const EARLIER: u64 = 10;

/// Between two looks for a service that is away; doubled each time.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Hello {
    missed: u64,
}

#[derive(Deserialize)]
struct Piece {
    id: String,
    at: DateTime<Utc>,
    kind: String,
    told: String,
}

struct Watch {
    client: Client,
    terminal: Terminal,
    /// Print news as they came.
    is_json: bool,
    /// The id of the last piece of news.
    after: Option<String>,
    /// How often the service was found.
    found: u64,
}

/// Watches the service that `client` reaches, until the process is ended.
pub(super) async fn run(client: Client, is_json: bool, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let mut watch = Watch { client, terminal, is_json, after: None, found: 0 };
    let mut pause = LOOK_AGAIN_MIN;
    loop {
        let before = watch.found;
        let why = match watch.follow().await {
            Ok(()) => "it has stopped".to_owned(),
            Err(error) if is_unread(&error) => return Ok(ExitCode::SUCCESS),
            Err(error) if watch.found == 0 => return Err(error.context(NO_SERVICE)),
            Err(error) => harmless(&format!("{error:#}")),
        };
        if watch.found > before {
            pause = LOOK_AGAIN_MIN;
            let away = watch.say(&format!("the service is away ({why}); looking for it again"));
            match away {
                Err(error) if is_unread(&error) => return Ok(ExitCode::SUCCESS),
                told => told?,
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN_MAX);
    }
}

/// Whether nobody reads any more what is told (`| head`).
fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl Watch {
    /// Tells the news of one connection.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let path = match &self.after {
            Some(after) => format!("/actors/events?after={after}"),
            None => format!("/actors/events?last={EARLIER}"),
        };
        let stream = self.client.open(Method::GET, &path, None).await?;
        if !stream.status().is_success() {
            bail!("it answered {}: {}", stream.status(), harmless(&stream.into_reply().await?.text()));
        }
        let mut events = Events::new(stream);
        while let Some(event) = events.next().await? {
            match event.event.as_str() {
                "hello" => self.greet(serde_json::from_str(&event.data)?).await?,
                "news" => self.tell(&event.data)?,
                // What a later service may tell beside.
                _ => {}
            }
        }
        Ok(())
    }

    /// Says how it stands now, at the beginning and whenever the service was found again.
    async fn greet(&mut self, hello: Hello) -> anyhow::Result<()> {
        let tree: Tree = serde_json::from_value(self.client.get("/actors").await?.json()?)
            .context("this is not the tree of a deepersensor service")?;
        self.found += 1;
        let state = tree.state();
        if self.found == 1 {
            return self.say(&format!("{}; waiting for news, Ctrl-C ends this", harmless(&state)));
        }
        self.say(&format!("the service is there again: {}", harmless(&state)))?;
        if hello.missed > 0 {
            self.say(&format!("{} pieces of news were missed", hello.missed))?;
        }
        Ok(())
    }

    fn tell(&mut self, data: &str) -> anyhow::Result<()> {
        let piece: Piece = serde_json::from_str(data).context("this is no news of a deepersensor service")?;
        if self.is_json {
            self.terminal.line_to_reader(harmless(data))?;
        } else {
            let told = harmless(&piece.told);
            let told = match piece.kind.as_str() {
                "fell" | "refuses" => self.terminal.alarm(&told),
                _ => told,
            };
            self.line(piece.at, &told)?;
        }
        self.after = Some(piece.id);
        Ok(())
    }

    /// Something of our own; not among news that programs read.
    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.is_json {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "the watch tells when it found or lost the service")]
        self.line(Utc::now(), &self.terminal.dim(text))
    }

    fn line(&self, at: DateTime<Utc>, text: &str) -> anyhow::Result<()> {
        Ok(self.terminal.line_to_reader(format!("{}  {text}", at.format("%H:%M:%SZ")))?)
    }
}
