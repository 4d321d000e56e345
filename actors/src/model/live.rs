//! The room's settings in force, and how others take their place while turns wait and run.
//!
//! The settings lie outside every actor: whoever is started anew, or looks again, finds the newest. A server that stays in
//! the configuration stays the same server, with its breaker and what it holds; one that was taken out serves the turns it has
//! and gets no more.

use std::sync::{Arc, Weak};

use domain::model_name::CanonicalName;

use super::{
    ModelConfig, ModelHandle, UpstreamConfig, UpstreamKind,
    catalogue::{Catalogue, CatalogueRules},
    provider::{AnyProvider, ProviderConfigError},
    router::Routing,
    upstream::{Upstream, UpstreamRules},
    waiting_list::Limits,
};

/// An immutable snapshot; a reload publishes a new one.
pub(super) struct Live {
    pub config: ModelConfig,
    /// In the order of the configuration.
    pub upstreams: Arc<[Arc<Upstream>]>,
}

/// What the servers told us, and which servers these were.
#[derive(Default)]
pub(super) struct Known {
    pub catalogue: Catalogue,
    pub upstreams: Arc<[Arc<Upstream>]>,
}

/// Settings of the room that were judged and prepared, and only have to be put in force.
pub struct PreparedModels(Live);

impl Live {
    pub fn rules(&self) -> CatalogueRules {
        CatalogueRules { limit: self.config.catalogue_limit, allow_cloud: self.config.allow_cloud }
    }

    pub fn limits(&self, model: &CanonicalName) -> Limits {
        Limits {
            places: self.config.queue_limit,
            per_user: self.config.queue_per_user,
            adaptive: self.config.adaptive.contains(model),
        }
    }
}

impl Known {
    /// The same by the settings of `live`; nothing is known of servers that are new there.
    pub fn on(&self, live: &Live) -> Catalogue {
        let ours = |theirs: &Arc<Upstream>| self.upstreams.iter().position(|ours| Arc::ptr_eq(ours, theirs));
        let from: Vec<_> = live.upstreams.iter().map(ours).collect();
        self.catalogue.moved(&from, live.rules())
    }

    fn is_of(&self, live: &Live) -> bool {
        let is_known = |theirs: &Arc<Upstream>| self.upstreams.iter().any(|ours| Arc::ptr_eq(ours, theirs));
        live.upstreams.iter().all(is_known)
    }
}

impl ModelHandle {
    /// Makes ready what [`ModelHandle::reconfigure`] puts in force. Of `config` that counts which can change while the room
    /// lives: servers, slots, queues, residence, aliases, who may ask what, cloud models, and the waits for a first byte and between two.
    ///
    /// # Errors
    ///
    /// A server's address makes no sense: nothing has changed.
    pub fn prepare(&self, config: ModelConfig) -> Result<PreparedModels, ProviderConfigError> {
        let routing = &self.0.routing;
        let live = routing.live.load_full();
        let config = live.config.followed_by(config);
        let former = routing.former.lock().clone();
        let known = |server: &UpstreamConfig| {
            let mut now = live.config.upstreams.iter().zip(&*live.upstreams);
            let same = now.find(|(known, _)| known.kind == server.kind).map(|(_, upstream)| upstream.clone());
            same.or_else(|| {
                former.iter().filter(|(kind, _)| *kind == server.kind).find_map(|(_, gone)| gone.upgrade())
            })
        };
        let upstreams: Result<Arc<[_]>, _> = config
            .upstreams
            .iter()
            .map(|server| known(server).map_or_else(|| routing.new_upstream(&config, server), Ok))
            .collect();
        Ok(PreparedModels(Live { upstreams: upstreams?, config }))
    }

    /// Puts settings in force: at once for whoever comes, and for what waits as soon as slots have been given up or made.
    /// Running turns go on, on the server and for as long as they were promised.
    pub fn reconfigure(&self, PreparedModels(live): PreparedModels) {
        let routing = &self.0.routing;
        for (server, upstream) in live.config.upstreams.iter().zip(&*live.upstreams) {
            upstream.reconfigure(UpstreamRules::of(&live.config, server), live.config.timeouts);
        }
        let before = routing.live.swap(Arc::new(live));
        routing.remember(&before);
        let routing = routing.clone();
        routing.tracker.clone().spawn(async move {
            let changed = async {
                let _only_one = routing.refreshing.lock().await;
                // A server that is new has to be asked first: its predecessor's models may be there, too.
                if routing.known.load().is_of(&routing.live.load()) {
                    routing.settle().await;
                }
                routing.refresh().await;
            };
            tokio::select! {
                () = routing.halt.cancelled() => {}
                () = changed => {}
            }
        });
    }
}

impl Routing {
    fn new_upstream(
        &self,
        config: &ModelConfig,
        server: &UpstreamConfig,
    ) -> Result<Arc<Upstream>, ProviderConfigError> {
        let provider = AnyProvider::from_config(server, &config.timeouts)?;
        let rules = UpstreamRules::of(config, server);
        Ok(Upstream::new(rules, provider, self.tracker.clone(), self.halt.clone()))
    }

    /// Keeps in mind the servers of `before` for as long as something of them is in use.
    fn remember(&self, before: &Live) {
        let mut former = self.former.lock();
        former.retain(|(_, upstream): &(UpstreamKind, Weak<Upstream>)| upstream.strong_count() > 0);
        for (server, upstream) in before.config.upstreams.iter().zip(&*before.upstreams) {
            former.retain(|(kind, _)| *kind != server.kind);
            former.push((server.kind.clone(), Arc::downgrade(upstream)));
        }
    }
}
