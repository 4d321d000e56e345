//! The hand that steers a fake server while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Server;
use super::catalogue::Listing;
use super::counters::Counters;
use super::http::request::Request;
use super::model::{self, Model};
use super::scenario::Scenario;
use crate::door::Door;

/// Changes and watches a fake server; clones are the same server.
#[derive(Clone)]
pub struct Control {
    pub(super) server: Arc<Server>,
    pub(super) door: Arc<Door>,
}

impl Control {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    pub(crate) fn abandon(&self) {
        self.door.abandon();
    }

    /// Adds a model, or replaces the one of that name.
    pub fn set_model(&self, model: Model) {
        let mut models = self.server.models.lock();
        models.retain(|known| known.name != model.name);
        models.push(model);
    }

    /// Makes a model vanish from the list; whoever uses it may finish.
    pub fn remove_model(&self, name: &str) {
        let name = model::canonical(name);
        self.server.models.lock().retain(|known| model::canonical(&known.name) != name);
    }

    /// Changes a model for the requests to come; `false` if there is none of that name.
    pub fn change_model(&self, name: &str, change: impl FnOnce(&mut Model)) -> bool {
        self.server.change(name, change)
    }

    /// Changes what happens to the model's requests to come; `false` if there is none of that name.
    pub fn set_scenario(&self, model: &str, scenario: Scenario) -> bool {
        self.server.change(model, |model| model.scenario = scenario)
    }

    /// Changes how `/api/tags` answers.
    pub fn set_tags(&self, listing: Listing) {
        self.server.faults.lock().tags = listing;
    }

    /// Changes how `/api/ps` answers.
    pub fn set_ps(&self, listing: Listing) {
        self.server.faults.lock().ps = listing;
    }

    /// The counts of this moment.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.stats.snapshot()
    }

    /// Waits for counts that meet `met`; looks at every change, never by a timer.
    ///
    /// # Errors
    ///
    /// After `timeout`, with the counts in the text.
    pub async fn wait_until(
        &self,
        met: impl FnMut(&Counters) -> bool,
        timeout: Duration,
    ) -> Result<Counters> {
        self.server.stats.wait_until(met, timeout).await
    }

    /// The requests that came in, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.server.log.list()
    }

    /// The same, which are then forgotten: for runs that outgrow the log.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Request> {
        self.server.log.take()
    }

    /// Names of the loaded models.
    #[must_use]
    pub fn loaded(&self) -> Vec<String> {
        self.server.scheduler.loaded().into_iter().map(|loaded| loaded.model).collect()
    }

    /// Accepts connections and requests, and sends no byte more, as a stopped process does.
    pub fn freeze(&self) {
        self.server.frozen.send_replace(true);
    }

    /// Goes on after [`Control::freeze`].
    pub fn unfreeze(&self) {
        self.server.frozen.send_replace(false);
    }

    /// Accepts connections and closes them at once, until [`Control::reopen`].
    pub async fn accept_and_close(&self) -> Result<()> {
        self.server.hang_up.send_replace(true);
        self.door.cut();
        self.door.reopen().await.context("the port is taken")
    }

    /// Ends all connections and refuses new ones, as a dead process does.
    pub async fn close(&self) {
        self.door.shut().await;
    }

    /// Serves again on the same port.
    ///
    /// # Errors
    ///
    /// When another process took the port in the meantime.
    pub async fn reopen(&self) -> Result<()> {
        self.server.hang_up.send_replace(false);
        self.door.reopen().await.context("the port is taken")
    }

    /// Ends all connections, also those in the middle of an answer; new ones are served.
    pub fn cut_connections(&self) {
        self.door.cut();
    }

    /// Ends the connections that wait for a request.
    pub fn close_idle_connections(&self) {
        self.server.idle_cut.send_modify(|cuts| *cuts += 1);
    }
}
