//! Where the service is at the moment, told to everybody who asks it something.

use std::net::SocketAddr;

use tokio::sync::watch;

/// One life of the service, from a start to the kill that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// Counted from 0.
    pub(super) number: usize,
    pub(super) addr: SocketAddr,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    life: Option<Life>,
    /// Whoever is through with a question waits with the next one.
    is_held: bool,
    is_over: bool,
}

/// The hand that moves the scene.
pub(super) struct Scene(watch::Sender<State>);

/// What a caller sees of it.
#[derive(Clone)]
pub(super) struct View(watch::Receiver<State>);

impl Scene {
    pub(super) fn empty() -> Self {
        Self(watch::Sender::default())
    }

    pub(super) fn view(&self) -> View {
        View(self.0.subscribe())
    }

    pub(super) fn enter(&self, life: Life) {
        self.0.send_modify(|state| state.life = Some(life));
    }

    pub(super) fn leave(&self) {
        self.0.send_modify(|state| state.life = None);
    }

    pub(super) fn hold(&self, is_held: bool) {
        self.0.send_modify(|state| state.is_held = is_held);
    }

    /// Nobody asks anything more.
    pub(super) fn end(&self) {
        self.0.send_modify(|state| state.is_over = true);
    }
}

impl View {
    /// Waits for a service that is not the one which `died`, and for leave to ask it; `None` when it is all over.
    pub(super) async fn next(&mut self, died: Option<usize>) -> Option<Life> {
        let is_new = |life: Life| died.is_none_or(|died| life.number > died);
        let may_go = |state: &State| state.is_over || (!state.is_held && state.life.is_some_and(is_new));
        let state = *self.0.wait_for(may_go).await.ok()?;
        state.life.filter(|_| !state.is_over)
    }
}
