//! What a model can do, where the list of an older server does not tell: asked once per digest and remembered.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Duration, timeout};

use super::{CAPABILITIES_MAX, control::Control, short, wire::Show};
use crate::model::provider::{ModelCard, UpstreamError};

/// Questions to one server at a time.
const ASKED_AT_ONCE: usize = 4;

/// Questions per listing; what is left waits for the next one.
const ASKED_PER_LISTING: usize = 64;

/// Remembered answers by digest; holds only what the last listing named.
#[derive(Default)]
pub(super) struct Details {
    by_digest: Mutex<HashMap<String, Detail>>,
}

#[derive(Clone, Default)]
struct Detail {
    capabilities: Vec<String>,
    context_length: Option<u32>,
}

impl Details {
    /// Fills what the cards lack, asking for unknown digests for at most `within`. Cards it learns nothing about stay as
    /// they are; they are asked about again at the next listing.
    pub(super) async fn fill(&self, control: &Control, cards: &mut [ModelCard], within: Duration) {
        self.forget_all_but(cards);
        let mut asked = HashSet::new();
        let unknown: Vec<(String, String)> = {
            let known = self.by_digest.lock();
            cards
                .iter()
                .filter(|card| lacks_details(card) && !known.contains_key(&card.digest))
                .filter(|card| asked.insert(card.digest.clone()))
                .take(ASKED_PER_LISTING)
                .map(|card| (card.digest.clone(), card.name.clone()))
                .collect()
        };
        let asking = stream::iter(unknown)
            .map(async |(digest, name)| (digest, control.show(&name).await))
            .buffer_unordered(ASKED_AT_ONCE)
            .for_each(async |(digest, answer)| self.learn(digest, answer));
        // Late answers are asked for again; what came is kept.
        let _ = timeout(within, asking).await;
        let known = self.by_digest.lock();
        for card in cards.iter_mut().filter(|card| lacks_details(card)) {
            if let Some(detail) = known.get(&card.digest) {
                if card.capabilities.is_empty() {
                    card.capabilities.clone_from(&detail.capabilities);
                }
                card.context_length = card.context_length.or(detail.context_length);
            }
        }
    }

    fn learn(&self, digest: String, answer: Result<Show, UpstreamError>) {
        let detail = match answer {
            Ok(show) => Detail::from(show),
            // It will not tell: do not ask every ten seconds.
            Err(UpstreamError::Rejected(_) | UpstreamError::NoSuchModel) => Detail::default(),
            Err(_) => return,
        };
        self.by_digest.lock().insert(digest, detail);
    }

    fn forget_all_but(&self, cards: &[ModelCard]) {
        let listed: HashSet<&str> = cards.iter().map(|card| card.digest.as_str()).collect();
        self.by_digest.lock().retain(|digest, _| listed.contains(digest.as_str()));
    }
}

/// Newer servers tell capabilities and context in the list; a card with capabilities needs no question.
fn lacks_details(card: &ModelCard) -> bool {
    card.capabilities.is_empty() && !card.digest.is_empty()
}

impl From<Show> for Detail {
    fn from(show: Show) -> Self {
        let info = show.model_info.unwrap_or_default();
        let architecture = info.get("general.architecture").and_then(|value| value.as_str());
        let context_length = architecture
            .and_then(|architecture| info.get(&format!("{architecture}.context_length")))
            .and_then(|value| value.as_u64())
            .and_then(|length| u32::try_from(length).ok());
        let capabilities = show.capabilities.unwrap_or_default();
        Self {
            capabilities: capabilities.into_iter().take(CAPABILITIES_MAX).map(short).collect(),
            context_length,
        }
    }
}
