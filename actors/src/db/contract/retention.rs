//! Conversations that were thrown away go, with every word of theirs, and what is kept can be taken along.

use chrono::TimeDelta;
use domain::{audit::AuditEvent, chat::ChatMessage, search::Query, session::Ending};

use super::{ground::Ground, samples::*};
use crate::clock::fresh_id;

async fn throw_away(ground: &Ground, condition: &str) {
    let now = if ground.config.database_url.is_some() { "now()" } else { "1" };
    ground.execute(&format!("UPDATE conversations SET deleted_at = {now} WHERE {condition}")).await.unwrap();
}

pub(super) async fn a_conversation_that_was_thrown_away_goes_with_every_word_and_leaves_its_usage(
    ground: Ground,
) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    for title in ["gone", "stays"] {
        let mut begin = begin(user);
        exchange(&mut begin).new_conversation_title = Some(title.into());
        exchange(&mut begin).reply = fresh_id();
        room.db.begin_turn(begin.clone()).await.unwrap();
        settle(&room.db, settlement(&begin, "a gull")).await.unwrap();
    }
    while room.db.take_words().await.unwrap() > 0 {}
    assert_eq!(room.db.purge_conversations().await, Ok(0), "nothing is thrown away");
    throw_away(&ground, "title = 'gone'").await;
    let gull = || Query::parse("gull").unwrap();
    let found = room.db.search(user, gull(), None, 10).await.unwrap().items;
    assert_eq!(found.len(), 1);
    let gone = ground
        .count(
            "SELECT count(*) FROM messages WHERE conversation_id IN
                             (SELECT id FROM conversations WHERE title = 'gone')",
        )
        .await;
    assert_eq!(gone, 2, "until they are purged");

    purge_conversations(&room.db).await;
    while room.db.tidy_index().await.unwrap() > 0 {}
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM messages").await, 2);
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 2);
    let found = room.db.search(user, gull(), None, 10).await.unwrap().items;
    assert!(found.len() == 1 && found[0].conversation.title == "stays" && found[0].hit.is_some());

    throw_away(&ground, "true").await;
    purge_conversations(&room.db).await;
    while room.db.tidy_index().await.unwrap() > 0 {}
    if ground.config.database_url.is_none() {
        assert_eq!(ground.count("SELECT count(*) FROM message_words_docsize").await, 0);
        // Nor any page of the index; the two records are its own.
        let pages = ground.count("SELECT count(*) FROM message_words_idx").await;
        assert_eq!(pages, 0, "the index holds words of nobody");
        let held = "SELECT count(*) FROM message_words_data WHERE instr(block, CAST('gull' AS BLOB)) > 0";
        assert_eq!(ground.count(held).await, 0);
    }
}

pub(super) async fn conversations_without_activity_are_thrown_away_a_few_at_a_time(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    for days in [0, 1, 2, 10, 11] {
        let mut begin = begin(user);
        begin.created_at = noon() + TimeDelta::days(days);
        room.db.begin_turn(begin).await.unwrap();
    }
    let before = noon() + TimeDelta::days(5);
    for retired in [2, 1, 0] {
        assert_eq!(room.db.retire_conversations(before, noon(), 2).await, Ok(retired));
    }
    assert_eq!(ground.count("SELECT count(*) FROM conversations WHERE deleted_at IS NULL").await, 2);
    purge_conversations(&room.db).await;
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 2);
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 5);
}

pub(super) async fn a17_all_that_is_kept_about_an_account_is_read_and_nothing_of_others(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await.id, some_user(&room.db).await.id);
    let session = some_session(&room.db, ada).await;
    let entry = audit(AuditEvent::SessionEnded, ada);
    room.db.end_sessions(ada, Ending::One(session.id), noon(), entry).await.unwrap();
    let (key, _) = some_key(&room.db, ada).await;
    let entry = audit(AuditEvent::AuthnTokenRevoked, ada);
    room.db.revoke_api_key(Some(ada), key.id, noon(), entry).await.unwrap();
    some_session(&room.db, eve).await;
    some_key(&room.db, eve).await;
    room.db.begin_turn(begin(eve)).await.unwrap();

    let mut begin = begin(ada);
    exchange(&mut begin).reply = fresh_id();
    let image = "aGkh".repeat(300_000);
    for said in &mut exchange(&mut begin).messages {
        said.message = ChatMessage { images: vec![image.clone()], ..said.message.clone() };
    }
    room.db.begin_turn(begin.clone()).await.unwrap();
    settle(&room.db, settlement(&begin, "Rayleigh")).await.unwrap();
    let conversation = stored(&begin).conversation;

    let sessions = room.db.held_sessions(ada, None).await.unwrap();
    assert!(sessions.len() == 1 && sessions[0].id == session.id && sessions[0].revoked_at == Some(noon()));
    assert!(room.db.held_sessions(ada, Some(session.id)).await.unwrap().is_empty());
    let keys = room.db.held_keys(ada, None).await.unwrap();
    assert!(keys.len() == 1 && keys[0].id == key.id && keys[0].revoked_at == Some(noon()));
    assert!(room.db.held_keys(ada, Some(key.id)).await.unwrap().is_empty());
    let conversations = room.db.held_conversations(ada, None).await.unwrap();
    assert!(conversations.len() == 1 && conversations[0].id == conversation);
    assert!(room.db.held_conversations(ada, Some(conversation)).await.unwrap().is_empty());

    let first = room.db.held_messages(ada, conversation, None).await.unwrap();
    assert!(first.len() == 1 && first[0].message.images == [image], "one that is larger than a page");
    let rest = room.db.held_messages(ada, conversation, Some(first[0].id)).await.unwrap();
    assert!(rest.len() == 1 && rest[0].message.content == "Rayleigh");
    assert!(room.db.held_messages(ada, conversation, Some(rest[0].id)).await.unwrap().is_empty());
    assert!(room.db.held_messages(eve, conversation, None).await.unwrap().is_empty());
    throw_away(&ground, "true").await;
    assert!(room.db.held_messages(ada, conversation, None).await.unwrap().is_empty());
    assert!(room.db.held_conversations(ada, None).await.unwrap().is_empty());
}
