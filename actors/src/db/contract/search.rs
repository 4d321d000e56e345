//! Conversations found by what was said in them, by their owner and nobody else.

use chrono::TimeDelta;
use domain::{
    conversation::{Activity, Page},
    id::UserId,
    search::{Found, Query, TEXT_WORDS, owner_mark},
    turn::{BeginTurn, TurnStatus},
};
use uuid::Uuid;

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::{
    clock::fresh_id,
    db::{
        DbHandle,
        indexing::Worded,
        message::{Write, Written},
    },
};

/// Until nothing is left to take.
async fn take_words(db: &DbHandle) {
    while db.take_words().await.unwrap() > 0 {}
}

/// Has a turn said and answered.
async fn said(room: &Running, mut begin: BeginTurn, question: &str, answer: &str) -> BeginTurn {
    exchange(&mut begin).messages[0].message.content = question.into();
    exchange(&mut begin).reply = fresh_id();
    room.db.begin_turn(begin.clone()).await.unwrap();
    settle(&room.db, settlement(&begin, answer)).await.unwrap();
    begin
}

fn titled(user: UserId, title: &str) -> BeginTurn {
    let mut begin = begin(user);
    exchange(&mut begin).new_conversation_title = Some(title.into());
    begin
}

async fn page(
    db: &DbHandle,
    owner: UserId,
    text: &str,
    before: Option<Activity>,
    limit: u32,
) -> Page<Found, Activity> {
    db.search(owner, Query::parse(text).unwrap(), before, limit).await.unwrap()
}

async fn found(db: &DbHandle, owner: UserId, text: &str) -> Vec<Found> {
    page(db, owner, text, None, 100).await.items
}

/// How many conversations are found.
async fn count(db: &DbHandle, owner: UserId, text: &str) -> usize {
    found(db, owner, text).await.len()
}

pub(super) async fn a_conversation_is_found_by_all_words_of_its_title_or_of_one_message(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    let sky =
        said(&room, titled(user, "On COLOURS, mostly"), "Why is the sky blue?", "Rayleigh — ÜBER alles")
            .await;
    let again =
        said(&room, begin_in(user, stored(&sky).conversation), "And at night?", "the sky is black").await;
    said(&room, titled(user, "Lunch"), "Soup or salad?", "Soup.").await;
    assert_eq!(count(&room.db, user, "sky").await, 0, "nobody has taken the words yet");
    take_words(&room.db).await;

    let hits = found(&room.db, user, "SKY the").await;
    assert_eq!(hits.len(), 1);
    let hit = hits[0].hit.clone().unwrap();
    assert_eq!(
        (hit.message, hit.snippet.as_str()),
        (stored(&again).message, "the sky is black"),
        "the newest"
    );
    assert_eq!(hits[0].conversation.title, "On COLOURS, mostly");
    // What nobody has taken the words of yet is no hit in place of another.
    said(&room, begin_in(user, stored(&sky).conversation), "And at dusk?", "It is red.").await;
    let older = found(&room.db, user, "blue sky").await[0].hit.clone().unwrap();
    assert_eq!((older.message, older.snippet.as_str()), (messages_of(&sky)[0].id, "Why is the sky blue?"));

    for (text, conversations) in [
        ("über", 1),
        ("ueber", 0),
        ("blu", 0),
        ("blues", 0),
        ("blue black", 0),   // in two messages
        ("blue colours", 0), // one in the title
        ("soup", 1),
        ("or soup salad", 1),
    ] {
        assert_eq!(count(&room.db, user, text).await, conversations, "{text}");
    }
    let by_title = found(&room.db, user, "mostly colours").await;
    assert_eq!((by_title.len(), &by_title[0].hit), (1, &None));
    assert_eq!(count(&room.db, user, "mostly colour").await, 0, "whole words");
    // As titles are from before anybody searched.
    ground.execute("UPDATE conversations SET title_words = NULL").await.unwrap();
    assert_eq!(count(&room.db, user, "lunch").await, 0);
    take_words(&room.db).await;
    assert_eq!(count(&room.db, user, "lunch").await, 1);
}

pub(super) async fn g8_what_means_something_to_a_database_is_plain_text(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    said(&room, titled(user, "100% of 'it'"), "drop table x or not near", "a* \"quoted\" (text)").await;
    take_words(&room.db).await;
    for (text, conversations) in [
        ("dr% tab_e", 0),
        ("dro*", 0),
        ("^drop", 1),
        ("x NEAR drop", 1),
        ("drop OR nothing", 0),
        ("table NOT drop", 1),
        ("NEAR(drop table, 1)", 0),
        ("words:drop", 0),
        ("\"quoted", 1),
        ("'; DROP TABLE x --", 1),
        ("100 %", 1),
        ("text) AND (a", 0),
        ("{quoted} + text", 1),
        ("drop\0table", 1),
        ("drop\\", 1),
    ] {
        assert_eq!(count(&room.db, user, text).await, conversations, "{text}");
    }
}

pub(super) async fn a17_a_search_finds_nothing_of_others_whatever_they_write(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await.id, some_user(&room.db).await.id);
    let mark = owner_mark(ada);
    let hers = said(&room, begin(ada), "a secret between us", "kept").await;
    let bait = format!("secret {mark} {ada} {}", ada.as_uuid().simple());
    said(&room, titled(eve, &bait), &bait, &bait).await;
    take_words(&room.db).await;
    for text in ["secret", "between us", "kept"] {
        assert_eq!(count(&room.db, ada, text).await, 1, "{text}");
    }
    assert_eq!(found(&room.db, ada, "secret").await[0].conversation.id, stored(&hers).conversation);
    assert_eq!(count(&room.db, ada, &ada.as_uuid().simple().to_string()).await, 0, "Eve's bait");
    assert_eq!(count(&room.db, eve, "secret").await, 1, "her own");
    for text in ["between us", "kept", &format!("{mark} kept"), &format!("{ada} kept")] {
        assert_eq!(count(&room.db, eve, text).await, 0, "{text}");
    }
}

pub(super) async fn what_is_found_pages_as_conversations_do_also_where_times_are_equal(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    let mut expected = Vec::new();
    for minute in [0, 1, 1, 1, 2] {
        let mut begin = titled(user, if expected.len() % 2 == 0 { "needle" } else { "hay" });
        begin.created_at = noon() + TimeDelta::minutes(minute);
        expected.push(Activity { at: begin.created_at, id: stored(&begin).conversation });
        said(&room, begin, "a needle", "none").await;
    }
    said(&room, titled(user, "hay"), "hay", "hay").await;
    take_words(&room.db).await;
    expected.sort();
    expected.reverse();
    for limit in [1, 2, 3, 100] {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let Page { items: found, next } = page(&room.db, user, "needle", before, limit).await;
            assert!(found.len() <= limit as usize && found.iter().all(|found| found.hit.is_some()));
            read.extend(found.into_iter().map(|found| found.conversation.activity()));
            let Some(next) = next else { break };
            before = Some(next);
        }
        assert_eq!(read, expected, "{limit} at once");
    }
}

pub(super) async fn words_are_taken_once_a_text_stands_and_only_if_it_still_does(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    let begin = begin(user);
    room.db.begin_turn(begin.clone()).await.unwrap();
    room.db.checkpoint(checkpoint(&begin, 1, "half an answer"));
    take_words(&room.db).await;
    assert_eq!(count(&room.db, user, "sky").await, 1, "what was asked");
    assert_eq!(count(&room.db, user, "half").await, 0, "what is being answered");

    settle(&room.db, settlement(&begin, "whole")).await.unwrap();
    let taken = |status, bytes| Worded {
        message: stored(&begin).message,
        status,
        bytes,
        marks: vec![owner_mark(user), "stale".into()],
    };
    for (status, bytes, written) in
        [(TurnStatus::Interrupted, 5, 0), (TurnStatus::Complete, 4, 0), (TurnStatus::Complete, 5, 1)]
    {
        let change = room.db.change(Uuid::nil(), Write::IndexMessages(vec![taken(status, bytes)])).await;
        assert_eq!(change.unwrap(), Ok(Written::from(written)), "{status:?} {bytes}");
    }
    assert_eq!(count(&room.db, user, "stale").await, 1);
    // As whoever writes another text does.
    let column = if ground.config.database_url.is_some() { "words" } else { "word_row" };
    ground.execute(&format!("UPDATE messages SET {column} = NULL WHERE role = 'assistant'")).await.unwrap();
    assert_eq!(count(&room.db, user, "stale").await, 0);
    take_words(&room.db).await;
    assert_eq!((count(&room.db, user, "stale").await, count(&room.db, user, "whole").await), (0, 1));
}

pub(super) async fn a_long_text_is_found_by_its_first_words_and_many_texts_in_bounded_steps(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    let long = |n: usize| (0..TEXT_WORDS + 10).map(|word| format!("w{word}x{n} ")).collect::<String>();
    let mut begins = Vec::new();
    for n in 0..120 {
        begins.push(said(&room, titled(user, "many"), &long(n), "short").await);
    }
    let first = room.db.take_words().await.unwrap();
    assert!((10..120).contains(&first), "{first} in one step");
    take_words(&room.db).await;
    assert_eq!(count(&room.db, user, "w0x7").await, 1);
    assert_eq!(count(&room.db, user, &format!("w{}x7", TEXT_WORDS - 1)).await, 1);
    assert_eq!(count(&room.db, user, &format!("w{TEXT_WORDS}x7")).await, 0);
    let found = found(&room.db, user, "many w0x7").await;
    assert!(found.is_empty(), "one in the title, one in a message");
    let Page { items, next } = page(&room.db, user, "short", None, 100).await;
    assert!(items.len() == 100 && next.is_some() && items.iter().all(|found| found.hit.is_some()));
}
