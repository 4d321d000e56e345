//! The signals that ask a service to end, and the one that asks it to read its settings again.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where SIGHUP ends the process, as is usual.
    hang_up: Option<Signal>,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// By the signal of this name.
    End(&'static str),
    Reload,
}

impl Signals {
    /// From now on the signals no longer end the process by themselves.
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: None,
        })
    }

    /// From now on SIGHUP does not either: it asks for a reload. One that comes too early is kept.
    pub(crate) fn with_reload(self) -> std::io::Result<Self> {
        Ok(Self { hang_up: Some(signal(SignalKind::hangup())?), ..self })
    }

    /// Waits for any of them.
    pub(crate) async fn asked(&mut self) -> Asked {
        let hung_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::End("SIGTERM"),
            _ = self.interrupt.recv() => Asked::End("SIGINT"),
            _ = hung_up => Asked::Reload,
        }
    }

    /// Waits for one that asks for the end, and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
