//! Which model a name stands for, for this caller, now.
//!
//! ```text
//! name ─▶ canonical ─▶ alias? its models : itself ─▶ those that the caller may ask and that are there ─▶ the first of those that look best
//! ```
//!
//! A model that the caller may not ask is none of those: whatever is asked about it, the answer is that of a name that nobody
//! offers, found in the same steps. What was chosen is what counts from then on: for queues, limits, the ledger and metrics.
//!
//! # When it breaks
//!
//! It reads two snapshots and keeps nothing, so there is nothing to lose. Between the choice that is paid for and the one that
//! begins the turn a server may go away: then the turn goes to the next model, and its request was counted of the one before.

use std::{slice, sync::Arc};

use domain::{
    model_name::{CanonicalName, ModelName},
    principal::Principal,
};

use super::{
    Model, ModelError, ModelHandle,
    live::Live,
    route::{Route, RouteTable},
};
use crate::rate_limit::TurnSize;

/// The model that serves a turn.
pub(super) struct Chosen {
    pub route: Arc<Route>,
    /// Tokens that its answer may have.
    pub answer_tokens: u32,
}

/// How far a model is from being served; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outlook {
    Up,
    /// It failed lately, but not so often that it would not be tried.
    WorthAsking,
    Refusing,
}

impl ModelHandle {
    /// Those models that the caller may ask, and the aliases of such, by name.
    pub fn models_for(&self, principal: &Principal) -> Vec<Model> {
        let (live, table) = self.snapshots();
        let own = table
            .0
            .iter()
            .filter(|(name, _)| live.config.aliases.get(name).is_none())
            .filter(|(name, _)| live.config.role_models.allow(principal, name))
            .map(|(_, route)| self.describe(route));
        let aliases = live.config.aliases.iter().filter_map(|(name, _)| {
            let route = self.best(&live, &table, principal, name)?;
            Some(self.describe_as(&live, name, &route))
        });
        let mut models: Vec<_> = own.chain(aliases).collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    pub fn model(&self, principal: &Principal, name: &ModelName) -> Option<Model> {
        let (live, table) = self.snapshots();
        let name = name.canonical();
        let route = self.best(&live, &table, principal, &name)?;
        Some(self.describe_as(&live, &name, &route))
    }

    /// Whether there is a model of this name that the caller may ask.
    pub fn offers(&self, principal: &Principal, name: &ModelName) -> bool {
        let (live, table) = self.snapshots();
        self.best(&live, &table, principal, &name.canonical()).is_some()
    }

    /// What a turn of this name and size counts as: the model that would serve it, and no more tokens than that may answer. A
    /// name that is not offered stands for itself.
    pub fn counted_as(
        &self,
        principal: &Principal,
        name: &ModelName,
        size: TurnSize,
    ) -> (CanonicalName, TurnSize) {
        let (live, table) = self.snapshots();
        let name = name.canonical();
        let best = self.best(&live, &table, principal, &name);
        let model = best.map_or(name, |route| route.model.name.clone());
        let most = live.config.answer_tokens(&model);
        (model, TurnSize { answer_tokens: size.answer_tokens.map(|asked| asked.min(most)), ..size })
    }

    /// The model that serves a turn which asks for `name`.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownModel`]; or, when nothing that the name stands for can be asked now, how it is with the first of it:
    /// [`ModelError::Degraded`], [`ModelError::ServerAway`], [`ModelError::Draining`].
    pub(super) fn choose(&self, principal: &Principal, name: &ModelName) -> Result<Chosen, ModelError> {
        let (live, table) = self.snapshots();
        let best = self.best(&live, &table, principal, &name.canonical());
        let route = best.ok_or_else(|| ModelError::UnknownModel(name.to_string()))?;
        if self.is_degraded(&route) {
            return Err(ModelError::Degraded);
        }
        if let Some(refusal) = route.refusal() {
            return Err(refusal);
        }
        let answer_tokens = live.config.answer_tokens(&route.model.name);
        Ok(Chosen { route, answer_tokens })
    }

    fn snapshots(&self) -> (Arc<Live>, Arc<RouteTable>) {
        (self.0.routing.live.load_full(), self.0.routing.table.load_full())
    }

    /// Of the models that `name` stands for, that the caller may ask and that are there, the first of those that look best.
    fn best(
        &self,
        live: &Live,
        table: &RouteTable,
        principal: &Principal,
        name: &CanonicalName,
    ) -> Option<Arc<Route>> {
        let alias = live.config.aliases.get(name);
        let targets = alias.map_or_else(|| slice::from_ref(name), |alias| &alias.targets);
        let offered = targets.iter().filter_map(|target| {
            // Both are looked at, whatever the other says: how long it takes tells nothing of either.
            let is_allowed = live.config.role_models.allow(principal, target);
            table.0.get(target).filter(|_| is_allowed)
        });
        offered.min_by_key(|route| self.outlook(route)).cloned()
    }

    fn outlook(&self, route: &Route) -> Outlook {
        match () {
            () if self.is_degraded(route) || route.refusal().is_some() => Outlook::Refusing,
            () if route.is_up() => Outlook::Up,
            () => Outlook::WorthAsking,
        }
    }

    fn describe(&self, route: &Route) -> Model {
        route.describe(self.is_degraded(route))
    }

    /// A model by the name that led to it.
    fn describe_as(&self, live: &Live, name: &CanonicalName, route: &Route) -> Model {
        let model = self.describe(route);
        match live.config.aliases.get(name) {
            Some(alias) => Model {
                name: name.clone(),
                alias_of: Some(model.display_name),
                display_name: alias.name.to_string(),
                ..model
            },
            None => model,
        }
    }
}
