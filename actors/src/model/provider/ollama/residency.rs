//! Which models are loaded, as far as we know, and the loads under way.
//!
//! Ollama aborts a load when the request that began it goes away, and others then start over (ollama-wire §6.3). So a
//! load belongs to this room, not to the turn that asked for it: a caller that leaves drops its share of the load, never
//! the request itself. Who asks for the same model meanwhile joins.
//!
//! Being wrong is cheap: a model thought to be loaded is loaded by the chat itself; one thought not to be costs one
//! request that is answered at once.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::provider::UpstreamError;

type Load = Shared<BoxFuture<'static, Result<(), UpstreamError>>>;

/// What we know about the models in one server's memory. Its size is bounded by the catalogue: only listed models get here.
#[derive(Default)]
pub(super) struct Residency {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    loaded: HashSet<String>,
    loading: HashMap<String, Loading>,
}

struct Loading {
    load: Load,
    since: Instant,
}

impl Residency {
    pub(super) fn is_loaded(&self, model: &str) -> bool {
        self.known.lock().loaded.contains(model)
    }

    pub(super) fn loaded(&self, model: &str) {
        let mut known = self.known.lock();
        if !known.loaded.contains(model) {
            known.loaded.insert(model.to_owned());
        }
    }

    pub(super) fn unloaded(&self, model: &str) {
        self.known.lock().loaded.remove(model);
    }

    /// Replaces what we believed by what the server says.
    pub(super) fn learn(&self, loaded: Vec<String>) {
        self.known.lock().loaded = loaded.into_iter().collect();
    }

    /// Waits for the load of `model` that is under way, or begins it with `begin`.
    ///
    /// A load nobody waits for stays with the server, and is given up as lost after `patience`.
    pub(super) async fn load(
        &self,
        model: &str,
        patience: Duration,
        begin: impl FnOnce() -> BoxFuture<'static, Result<(), UpstreamError>>,
    ) -> Result<(), UpstreamError> {
        let load = {
            let mut known = self.known.lock();
            known.loading.retain(|_, loading| loading.since.elapsed() < patience);
            match known.loading.get(model) {
                Some(loading) => loading.load.clone(),
                None => {
                    let load = begin().shared();
                    known
                        .loading
                        .insert(model.to_owned(), Loading { load: load.clone(), since: Instant::now() });
                    load
                }
            }
        };
        let result = load.clone().await;
        let mut known = self.known.lock();
        if known.loading.get(model).is_some_and(|loading| loading.load.ptr_eq(&load)) {
            known.loading.remove(model);
        }
        match &result {
            Ok(()) => known.loaded.insert(model.to_owned()),
            Err(_) => known.loaded.remove(model),
        };
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join3;
    use tokio::sync::Notify;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(600);

    struct Server {
        begun: AtomicUsize,
        loaded: Notify,
    }

    impl Server {
        fn begin(self: &Arc<Self>) -> impl FnOnce() -> BoxFuture<'static, Result<(), UpstreamError>> {
            let server = Arc::clone(self);
            move || {
                server.begun.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    server.loaded.notified().await;
                    Ok(())
                })
            }
        }
    }

    fn setting() -> (Residency, Arc<Server>) {
        (Residency::default(), Arc::new(Server { begun: AtomicUsize::new(0), loaded: Notify::new() }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_outlives_the_caller_that_began_it_and_others_join_it() {
        let (residency, server) = setting();
        let left =
            tokio::time::timeout(Duration::from_secs(1), residency.load("m", PATIENCE, server.begin()));
        assert!(left.await.is_err(), "the first caller leaves");
        let (one, two, ()) = join3(
            residency.load("m", PATIENCE, server.begin()),
            residency.load("m", PATIENCE, server.begin()),
            // Polled last, so both have joined by now.
            async { server.loaded.notify_one() },
        )
        .await;
        assert_eq!((one, two), (Ok(()), Ok(())));
        assert_eq!(server.begun.load(Ordering::Relaxed), 1);
        assert!(residency.is_loaded("m"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_load_is_begun_anew_when_patience_has_run_out() {
        let (residency, server) = setting();
        for _ in 0..2 {
            let left = tokio::time::timeout(PATIENCE, residency.load("m", PATIENCE, server.begin()));
            assert!(left.await.is_err());
        }
        assert_eq!(server.begun.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_failed_load_is_forgotten_and_the_servers_own_list_is_believed() {
        let residency = Residency::default();
        residency.loaded("m");
        let failed = residency.load("m", PATIENCE, || Box::pin(async { Err(UpstreamError::Busy) })).await;
        assert_eq!(failed, Err(UpstreamError::Busy));
        assert!(!residency.is_loaded("m"));
        residency.learn(vec!["n".to_owned()]);
        assert!(residency.is_loaded("n"));
        residency.unloaded("n");
        assert!(!residency.is_loaded("n"));
    }
}
