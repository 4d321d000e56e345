//! The catalogue: which models there are, and which servers have them.
//!
//! ```text
//! each server's list ──▶ Shelf (last truth + whether it answers now) ──▶ logical models by canonical name
//! ```
//!
//! A value, not a service: a refresh makes a new one from the old one, and the router decides when. A server that does not
//! answer keeps its models, marked as unreachable: callers see what they know, and a short outage does not turn every
//! model into a 404. Names that send prompts to somebody else's machine are left out unless the operator allows them.

use std::{collections::BTreeMap, sync::Arc};

use domain::model_name::{CanonicalName, ModelName};
use futures_util::future::join_all;

use super::{
    provider::{ModelCard, UpstreamError},
    upstream::Upstream,
};

/// What the operator lets into the catalogue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatalogueRules {
    /// The most logical models; see [`super::ModelConfig::catalogue_limit`].
    pub(crate) limit: usize,
    pub(crate) allow_cloud: bool,
}

/// All known models; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    /// One for each configured server, in their order.
    shelves: Arc<[Shelf]>,
    models: Arc<BTreeMap<CanonicalName, CatalogueModel>>,
}

/// What one server last told us.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    cards: Arc<[ModelCard]>,
    /// Why the last list failed; the cards are from before.
    pub(crate) error: Option<UpstreamError>,
}

/// One logical model: a name and the servers that have it.
#[derive(Debug, Clone)]
pub(crate) struct CatalogueModel {
    pub(crate) name: CanonicalName,
    /// As the first server that has it (a reachable one, if there is one) describes it.
    pub(crate) card: ModelCard,
    /// In the order of the configuration; never empty.
    pub(crate) places: Vec<Place>,
}

/// A model on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into the configured servers.
    pub(crate) upstream: usize,
    /// The server's own spelling; what it is sent.
    pub(crate) server_name: Arc<str>,
    /// Whether the server answered when last asked.
    pub(crate) is_reachable: bool,
}

impl CatalogueModel {
    pub(crate) fn is_reachable(&self) -> bool {
        self.places.iter().any(|place| place.is_reachable)
    }
}

impl Catalogue {
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// Asks all servers at once, each bounded by its own timeouts, and gives the catalogue that follows from this one.
    pub(crate) async fn refresh(&self, upstreams: &[Arc<Upstream>], rules: CatalogueRules) -> Self {
        let lists = join_all(upstreams.iter().map(Upstream::list)).await;
        self.followed_by(lists, rules)
    }

    /// The catalogue after these answers, one per server in the configured order.
    pub(crate) fn followed_by(
        &self,
        lists: Vec<Result<Vec<ModelCard>, UpstreamError>>,
        rules: CatalogueRules,
    ) -> Self {
        let shelves: Arc<[Shelf]> = lists
            .into_iter()
            .enumerate()
            .map(|(upstream, list)| match list {
                Ok(cards) => Shelf { cards: cards.into(), error: None },
                Err(error) => {
                    let cards =
                        self.shelves.get(upstream).map(|shelf| Arc::clone(&shelf.cards)).unwrap_or_default();
                    Shelf { cards, error: Some(error) }
                }
            })
            .collect();
        self.of(shelves, rules)
    }

    /// What is known from here about other servers, by other rules: for each of them, which of ours it was, if any.
    pub(crate) fn moved(&self, from: &[Option<usize>], rules: CatalogueRules) -> Self {
        let shelf = |from: &Option<usize>| from.and_then(|from| self.shelves.get(from)).cloned();
        let shelves: Arc<[Shelf]> = from.iter().map(|from| shelf(from).unwrap_or_default()).collect();
        self.of(shelves, rules)
    }

    fn of(&self, shelves: Arc<[Shelf]>, rules: CatalogueRules) -> Self {
        let mut models = logical_models(&shelves, rules.allow_cloud);
        if models.len() > rules.limit {
            self.shrink(&mut models, rules.limit);
        }
        Self { shelves, models: Arc::new(models) }
    }

    /// What is known about each server, in the configured order.
    pub(crate) fn shelves(&self) -> &[Shelf] {
        &self.shelves
    }

    /// All models, by name.
    pub(crate) fn models(&self) -> impl Iterator<Item = &CatalogueModel> {
        self.models.values()
    }

    #[cfg(test)]
    pub(crate) fn find(&self, name: &CanonicalName) -> Option<&CatalogueModel> {
        self.models.get(name)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.models.len()
    }

    /// Keeps `limit` models, those that this catalogue had first: a flood of new names must not push out what is in use.
    fn shrink(&self, models: &mut BTreeMap<CanonicalName, CatalogueModel>, limit: usize) {
        let mut room_for_new =
            limit.saturating_sub(models.keys().filter(|name| self.models.contains_key(name)).count());
        models.retain(|name, _| {
            self.models.contains_key(name) || {
                let fits = room_for_new > 0;
                room_for_new = room_for_new.saturating_sub(1);
                fits
            }
        });
        // Only a lowered limit leaves too many old ones.
        while models.len() > limit {
            models.pop_last();
        }
    }
}

fn logical_models(shelves: &[Shelf], allow_cloud: bool) -> BTreeMap<CanonicalName, CatalogueModel> {
    let mut models = BTreeMap::<CanonicalName, CatalogueModel>::new();
    for (upstream, shelf) in shelves.iter().enumerate() {
        for card in shelf.cards.iter() {
            // A name callers could not say is a model they cannot use.
            let Ok(name) = ModelName::parse(&card.name) else { continue };
            let name = name.canonical();
            if (card.is_remote || name.is_cloud()) && !allow_cloud {
                continue;
            }
            let place = Place {
                upstream,
                server_name: Arc::from(card.name.as_str()),
                is_reachable: shelf.error.is_none(),
            };
            let model = models.entry(name.clone()).or_insert_with(|| CatalogueModel {
                name,
                card: card.clone(),
                places: Vec::new(),
            });
            if model.places.iter().any(|other| other.upstream == upstream) {
                // Two spellings on one server; the first is as good.
                continue;
            }
            if place.is_reachable && !model.places.is_empty() && !model.is_reachable() {
                model.card = card.clone();
            }
            model.places.push(place);
        }
    }
    models
}

#[cfg(test)]
mod tests {
    use super::{
        super::provider::scripted::{Script, answer},
        *,
    };

    const RULES: CatalogueRules = CatalogueRules { limit: 100, allow_cloud: false };

    fn card(name: &str, digest: &str) -> ModelCard {
        ModelCard { name: name.to_owned(), digest: digest.to_owned(), ..ModelCard::default() }
    }

    fn name(text: &str) -> CanonicalName {
        ModelName::parse(text).unwrap().canonical()
    }

    fn names(catalogue: &Catalogue) -> Vec<&str> {
        catalogue.models().map(|model| model.name.as_str()).collect()
    }

    #[test]
    fn spellings_of_a_model_on_several_servers_are_one_logical_model() {
        let catalogue = Catalogue::empty().followed_by(
            vec![
                Ok(vec![card("Llama3.2:latest", "a"), card("llama3.2", "again")]),
                Ok(vec![card("library/llama3.2", "b"), card("only-here:1b", "c")]),
            ],
            RULES,
        );
        assert_eq!(names(&catalogue), ["llama3.2:latest", "only-here:1b"]);
        let model = catalogue.find(&name("LLAMA3.2:local")).unwrap();
        let places: Vec<_> = model.places.iter().map(|place| (place.upstream, &*place.server_name)).collect();
        assert_eq!(places, [(0, "Llama3.2:latest"), (1, "library/llama3.2")]);
        assert_eq!(model.card.digest, "a");
    }

    #[test]
    fn a_server_that_does_not_answer_keeps_its_models_as_unreachable() {
        let down = || Err(UpstreamError::Connect("refused".to_owned()));
        let first = Catalogue::empty().followed_by(
            vec![Ok(vec![card("shared", "old"), card("mine", "m")]), Ok(vec![card("shared", "other")])],
            RULES,
        );
        let second = first.followed_by(vec![down(), Ok(vec![card("shared", "other")])], RULES);
        assert_eq!(names(&second), ["mine:latest", "shared:latest"]);
        assert!(!second.find(&name("mine")).unwrap().is_reachable());
        let shared = second.find(&name("shared")).unwrap();
        assert!(shared.is_reachable() && !shared.places[0].is_reachable && shared.places[1].is_reachable);
        assert_eq!(shared.card.digest, "other", "a reachable server describes it");
        assert!(second.shelves()[0].error.is_some());
        let third = second.followed_by(vec![Ok(vec![]), Ok(vec![])], RULES);
        assert_eq!(third.len(), 0, "a server that answers is believed");
    }

    #[test]
    fn a_server_that_never_answered_has_no_models() {
        let catalogue = Catalogue::empty().followed_by(vec![Err(UpstreamError::Busy)], RULES);
        assert_eq!((catalogue.len(), &catalogue.shelves()[0].error), (0, &Some(UpstreamError::Busy)));
    }

    #[test]
    fn models_that_leave_the_machine_are_left_out_unless_allowed() {
        let lists = || {
            vec![Ok(vec![
                card("gpt-oss:20b-cloud", "a"),
                ModelCard { is_remote: true, ..card("innocent", "b") },
                card("../../etc/passwd", "c"),
                card("local", "d"),
            ])]
        };
        assert_eq!(names(&Catalogue::empty().followed_by(lists(), RULES)), ["local:latest"]);
        let open = CatalogueRules { allow_cloud: true, ..RULES };
        assert_eq!(
            names(&Catalogue::empty().followed_by(lists(), open)),
            ["gpt-oss:20b-cloud", "innocent:latest", "local:latest"]
        );
    }

    #[test]
    fn a_flood_of_names_is_cut_and_does_not_push_out_known_models() {
        let rules = CatalogueRules { limit: 2, ..RULES };
        let first = Catalogue::empty().followed_by(vec![Ok(vec![card("z", "z")])], rules);
        let flood: Vec<_> = (0..50).map(|n| card(&format!("a{n:02}"), "f")).chain([card("z", "z")]).collect();
        let second = first.followed_by(vec![Ok(flood.clone())], rules);
        assert_eq!(names(&second), ["a00:latest", "z:latest"]);
        let lowered = second.followed_by(vec![Ok(flood)], CatalogueRules { limit: 1, ..RULES });
        assert_eq!(names(&lowered), ["a00:latest"]);
    }

    #[tokio::test]
    async fn a_refresh_asks_every_server() {
        let (one, two) = (Script::new(&["a"], answer("x")), Script::new(&["b"], answer("x")));
        let providers = [one.upstream(), two.upstream()];
        let catalogue = Catalogue::empty().refresh(&providers, RULES).await;
        assert_eq!(names(&catalogue), ["a:latest", "b:latest"]);
        two.list_as(Err(UpstreamError::Busy));
        let catalogue = catalogue.refresh(&providers, RULES).await;
        assert!(!catalogue.find(&name("b")).unwrap().is_reachable());
    }
}
