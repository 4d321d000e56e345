//! Reading at size: a page of ten thousand is read as fast as one of ten.
//!
//! Small machines and debug builds get ten times the bound; `scripts/prove pages` holds the release build to it.

use std::time::Duration;

use domain::{
    chat::{ChatMessage, Role},
    conversation::{NewMessage, PAGE_LIMIT_MAX},
    id::{ConversationId, MessageId, UserId},
};
use futures_util::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::clock::fresh_id;

const SIZE: usize = 10_000;
/// What a page may take.
const SOON: Duration = Duration::from_millis(10);
const BUSY: u32 = if cfg!(debug_assertions) { 10 } else { 1 };
/// Readings of which the median counts.
const READINGS: usize = 7;
/// Turns that are begun at once: fewer than the places of one lane.
const AT_ONCE: usize = 1_000;
/// As long as people's messages are.
const WORDS: &str =
    "why is the sky blue at noon and red in the evening, and what colour has it on other worlds? ";

/// Reads a page several times; the items' ids, the cursor after it and the median time.
async fn timed<C>(read: impl AsyncFn() -> (Vec<Uuid>, Option<C>)) -> (Vec<Uuid>, Option<C>, Duration) {
    let (mut took, mut page) = (Vec::new(), (Vec::new(), None));
    for _ in 0..READINGS {
        let begun = Instant::now();
        page = read().await;
        took.push(begun.elapsed());
    }
    took.sort();
    (page.0, page.1, took[READINGS / 2])
}

/// Reads all pages; what is in them, and holds the slowest to the bound.
async fn all_pages<C: Copy>(
    what: &str,
    ground: &Ground,
    read: impl AsyncFn(Option<C>) -> (Vec<Uuid>, Option<C>),
) -> Vec<Uuid> {
    let (mut all, mut times, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let (items, next, took) = timed(async || read(cursor).await).await;
        assert!(items.len() <= PAGE_LIMIT_MAX as usize, "{} on a page", items.len());
        all.extend(items);
        times.push(took);
        assert!(times.len() <= SIZE, "pages without an end");
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let store = if ground.config.database_url.is_some() { "Postgres" } else { "SQLite" };
    let (first, middle, last) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let slowest = times.iter().max().unwrap();
    println!(
        "{what} on {store}: {} pages; first {first:.2?}, middle {middle:.2?}, last {last:.2?}, slowest {slowest:.2?}",
        times.len()
    );
    assert!(*slowest < SOON * BUSY, "{what}: a page took {slowest:?}");
    all
}

/// A conversation of so many messages, all made at the same instant; their ids in order.
async fn long_conversation(room: &Running, user: UserId) -> (ConversationId, Vec<MessageId>) {
    const A_TURN: usize = 1_000;
    let (mut ids, mut conversation) = (Vec::new(), None);
    while ids.len() < SIZE {
        let mut begin = conversation.map_or_else(|| begin(user), |id| begin_in(user, id));
        let said = (1..A_TURN).map(|n| {
            let role = if n % 2 == 0 { Role::Assistant } else { Role::User };
            NewMessage { id: fresh_id(), message: ChatMessage::text(role, WORDS.repeat(1 + n % 8)) }
        });
        let exchange = exchange(&mut begin);
        exchange.messages = said.collect();
        // The answer is made after what it answers.
        exchange.reply = fresh_id();
        ids.extend(exchange.messages.iter().map(|new| new.id).chain([exchange.reply]));
        conversation = Some(exchange.conversation);
        room.db.begin_turn(begin).await.unwrap();
    }
    (conversation.unwrap(), ids)
}

pub(super) async fn a_page_of_10_000_messages_is_read_soon_wherever_it_is(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    // Somebody else's lie between.
    long_conversation(&room, eve.id).await;
    let (conversation, ids) = long_conversation(&room, ada.id).await;
    let read = all_pages("10,000 messages", &ground, async |after| {
        let page = room.db.messages(ada.id, conversation, after, PAGE_LIMIT_MAX).await.unwrap();
        (page.items.iter().map(|message| message.id.as_uuid()).collect(), page.next)
    });
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    assert_eq!(read.await, ids);

    let history = async || {
        let newest = room.db.history(ada.id, conversation, 200, 512 << 10).await.unwrap().unwrap();
        (newest.iter().map(|message| message.id.as_uuid()).collect(), None::<Uuid>)
    };
    let (newest, _, took) = timed(history).await;
    println!("what a model is to see of them: {took:.2?}");
    assert_eq!(newest, ids[SIZE - 200..]);
    assert!(took < SOON * BUSY, "the history took {took:?}");
}

pub(super) async fn a_page_of_10_000_conversations_is_read_soon_wherever_it_is(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let mut ids = Vec::new();
    for chunk in 0..SIZE / AT_ONCE {
        // Of one instant, so that only their ids order them.
        let begins: Vec<_> = (0..AT_ONCE).map(|_| begin(ada.id)).collect();
        ids.extend(begins.iter().map(|begin| stored(begin).conversation.as_uuid()));
        let others = (0..AT_ONCE / 10).map(|_| begin(eve.id));
        let begun = join_all(others.chain(begins).map(|begin| room.db.begin_turn(begin))).await;
        assert!(begun.iter().all(Result::is_ok), "chunk {chunk}");
    }
    let mut read = all_pages("10,000 conversations", &ground, async |before| {
        let page = room.db.conversations(ada.id, before, PAGE_LIMIT_MAX).await.unwrap();
        (page.items.iter().map(|conversation| conversation.id.as_uuid()).collect(), page.next)
    })
    .await;
    assert!(read.is_sorted_by(|newer, older| newer > older), "newest first, none twice");
    read.reverse();
    ids.sort();
    assert_eq!(read, ids);
}
