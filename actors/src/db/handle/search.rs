//! Search, and the words that it goes by. They are taken from texts after these were stored, so that nobody waits for it.

use std::{collections::HashMap, sync::Arc};

#[cfg(doc)]
use domain::conversation::PAGE_LIMIT_MAX;
use domain::{
    conversation::{Activity, Conversation, Page},
    id::{MessageId, UserId},
    search::{Found, Hit, Query},
};
use futures_util::future::BoxFuture;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::db::{
    DbError, DbHandle,
    indexing::{BYTES_AT_ONCE, MESSAGES_AT_ONCE, TITLES_AT_ONCE, Worded, WordedTitle},
    message::Write,
    store::Store,
};

/// Texts that snippets are cut from at once.
const TEXTS_AT_ONCE: usize = 8;

/// How much text is cut where it is; what is longer is cut off the runtime's threads.
const CUT_BYTES_HERE: usize = 64 * 1024;

impl DbHandle {
    /// The owner's conversations whose title has, or one of whose messages has, all words of the query, the last one active
    /// first; at most [`PAGE_LIMIT_MAX`]. What was said some seconds ago is not found yet. Like a report, it waits for its turn.
    pub async fn search(
        &self,
        owner: UserId,
        query: Query,
        before: Option<Activity>,
        limit: u32,
    ) -> Result<Page<Found, Activity>, DbError> {
        let words = query.words().to_vec();
        let before = before.unwrap_or_else(Activity::latest);
        let place = |(conversation, _): &(Conversation, _)| conversation.activity();
        let turn = self.reader_for_long().await?;
        let find = move |store: Arc<dyn Store>, limit| {
            let found = store.find(owner, words, before, limit);
            Box::pin(async move {
                let found = found.await;
                drop(turn);
                found
            }) as BoxFuture<'static, _>
        };
        let Page { items, next } = self.page(limit, place, find).await?;
        let hits: Vec<_> = items.iter().filter_map(|(_, hit)| *hit).collect();
        let mut snippets = self.snippets(owner, query, &hits).await?;
        let found = items.into_iter().map(|(conversation, hit)| {
            let hit = hit.and_then(|message| Some(Hit { message, snippet: snippets.remove(&message)? }));
            Found { conversation, hit }
        });
        Ok(Page { items: found.collect(), next })
    }

    /// Few texts at a time: together they may be long.
    async fn snippets(
        &self,
        owner: UserId,
        query: Query,
        hits: &[MessageId],
    ) -> Result<HashMap<MessageId, String>, DbError> {
        let query = Arc::new(query);
        let mut snippets = HashMap::new();
        for few in hits.chunks(TEXTS_AT_ONCE) {
            let few = few.to_vec();
            let texts = self.read(move |store| store.texts(owner, few)).await?;
            let bytes = texts.iter().map(|(_, text)| text.len()).sum();
            let query = Arc::clone(&query);
            let cut = move |(id, text): (MessageId, String)| (id, query.snippet(&text));
            snippets.extend(
                off_the_runtime(bytes, move || texts.into_iter().map(cut).collect::<Vec<_>>()).await?,
            );
        }
        Ok(snippets)
    }

    /// Takes the words of some messages and titles that have none yet, the newest first; of how many. None: there are no
    /// others, but for those that somebody else has in hand.
    ///
    /// # Errors
    ///
    /// Nothing is lost: ask again later.
    pub(crate) async fn take_words(&self) -> Result<u64, DbError> {
        let titles = self.read(|store| store.wordless_titles(TITLES_AT_ONCE)).await?;
        let mut taken = 0;
        if !titles.is_empty() {
            let worded: Vec<_> = titles.into_iter().map(WordedTitle::from).collect();
            taken += self.write::<u64>(Uuid::nil(), Write::IndexTitles(worded)).await?;
        }
        let messages = self.read(|store| store.wordless(MESSAGES_AT_ONCE, BYTES_AT_ONCE)).await?;
        if !messages.is_empty() {
            let bytes = messages.iter().map(|message| message.text.len()).sum();
            let cut = move || messages.into_iter().map(Worded::from).collect();
            let worded: Vec<_> = off_the_runtime(bytes, cut).await?;
            taken += self.write::<u64>(Uuid::nil(), Write::IndexMessages(worded)).await?;
        }
        Ok(taken)
    }

    /// Frees some of what removed messages have left in the index; how much it had to do. None: nothing is left.
    ///
    /// # Errors
    ///
    /// As for [`DbHandle::take_words`].
    pub(crate) async fn tidy_index(&self) -> Result<u64, DbError> {
        self.write(Uuid::nil(), Write::TidyIndex).await
    }
}

/// Cuts texts of so many bytes: here if they are short.
async fn off_the_runtime<T: Send + 'static>(
    bytes: usize,
    cut: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DbError> {
    if bytes <= CUT_BYTES_HERE {
        return Ok(cut());
    }
    spawn_blocking(cut).await.map_err(|error| DbError::Broken(error.to_string()))
}
