//! Conversations as their owner, and nobody else, reads them.

use domain::{
    chat::{ChatMessage, Role, ToolCall},
    conversation::NewMessage,
};

use super::{ground::Ground, samples::*};
use crate::{clock::fresh_id, db::DbError};

pub(super) async fn a17_nobody_reads_what_is_somebody_elses(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let begin = begin(ada.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    let id = stored(&begin).conversation;
    assert!(room.db.conversation(ada.id, id).await.unwrap().is_some());
    assert_eq!(room.db.conversation(eve.id, id).await, Ok(None));
    assert_eq!(room.db.messages(eve.id, id, None, 10).await.unwrap_err(), DbError::NotFound);
    assert_eq!(room.db.messages(ada.id, fresh_id(), None, 10).await.unwrap_err(), DbError::NotFound);
    assert!(room.db.history(eve.id, id, 10, u32::MAX).await.unwrap().is_none());
    assert!(room.db.conversations(eve.id, None, 10).await.unwrap().items.is_empty());
    // An empty page is not a missing conversation.
    let end = room.db.messages(ada.id, id, Some(uuid::Uuid::max()), 10).await.unwrap();
    assert!(end.items.is_empty() && end.next.is_none());
}

pub(super) async fn conversations_page_from_new_to_old(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        let begin = begin(user.id);
        made.push(stored(&begin).conversation);
        room.db.begin_turn(begin).await.unwrap();
    }
    made.reverse();
    let mut read = Vec::new();
    let mut before = None;
    loop {
        let page = room.db.conversations(user.id, before, 2).await.unwrap();
        assert!(page.items.len() <= 2);
        read.extend(page.items.iter().map(|conversation| conversation.id));
        let Some(next) = page.next else { break };
        before = Some(next.into());
    }
    assert_eq!(read, made);
}

pub(super) async fn messages_page_in_order_of_their_making(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let first = begin(user.id);
    room.db.begin_turn(first.clone()).await.unwrap();
    for _ in 0..2 {
        room.db.begin_turn(begin_in(user.id, stored(&first).conversation)).await.unwrap();
    }
    let whole = room.db.messages(user.id, stored(&first).conversation, None, 100).await.unwrap();
    assert_eq!(whole.next, None);
    let whole: Vec<_> = whole.items.into_iter().map(|message| message.id).collect();
    assert!(whole.len() == 6 && whole.is_sorted());

    let page = room.db.messages(user.id, stored(&first).conversation, None, 4).await.unwrap();
    let rest = room.db.messages(user.id, stored(&first).conversation, page.next, 4).await.unwrap();
    assert_eq!(rest.next, None);
    let read: Vec<_> = page.items.into_iter().chain(rest.items).map(|message| message.id).collect();
    assert_eq!(read, whole);
}

pub(super) async fn history_is_the_newest_messages_in_order(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let first = begin(user.id);
    room.db.begin_turn(first.clone()).await.unwrap();
    let second = begin_in(user.id, stored(&first).conversation);
    room.db.begin_turn(second.clone()).await.unwrap();
    let history = room.db.history(user.id, stored(&first).conversation, 3, u32::MAX).await.unwrap().unwrap();
    let ids: Vec<_> = history.into_iter().map(|message| message.id).collect();
    assert_eq!(ids, [stored(&first).message, messages_of(&second)[0].id, stored(&second).message]);
}

pub(super) async fn history_ends_before_it_has_more_bytes_than_asked_for(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: serde_json::json!({}) };
    let calls = serde_json::to_string(&[&call]).unwrap().len() as u32;
    let mut begin = begin(user.id);
    let text = |content: &str| ChatMessage::text(Role::User, content);
    exchange(&mut begin).messages = [
        text("old"),
        ChatMessage { images: vec!["aGkh".into()], ..text("ü€é") },
        ChatMessage { thinking: Some("hmm".into()), ..text("new") },
        ChatMessage { role: Role::Assistant, tool_calls: vec![call], ..text("") },
    ]
    .map(|message| NewMessage { id: fresh_id(), message })
    .into();
    exchange(&mut begin).reply = fresh_id();
    let ids: Vec<_> = messages_of(&begin).iter().map(|new| new.id).chain([stored(&begin).message]).collect();
    let conversation = stored(&begin).conversation;
    room.db.begin_turn(begin).await.unwrap();
    let image = "ü€é".len() as u32 + r#"["aGkh"]"#.len() as u32;
    for (bytes_max, kept) in [
        (0, 1),
        (calls - 1, 1),
        (calls, 2),
        (calls + 5, 2),
        (calls + 6, 3),
        (calls + 6 + image - 1, 3),
        (calls + 6 + image, 4),
        (calls + 6 + image + 2, 4),
        (calls + 6 + image + 3, 5),
    ] {
        let history = room.db.history(user.id, conversation, 10, bytes_max).await.unwrap().unwrap();
        let read: Vec<_> = history.into_iter().map(|message| message.id).collect();
        assert_eq!(read, ids[5 - kept..], "{bytes_max} bytes");
    }
}

pub(super) async fn a_page_leaves_images_in_the_database(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut begin = begin(user.id);
    exchange(&mut begin).messages[0].message.images = vec!["aGkh".into()];
    let conversation = stored(&begin).conversation;
    room.db.begin_turn(begin).await.unwrap();
    let page = room.db.messages(user.id, conversation, None, 10).await.unwrap();
    assert_eq!(page.items[0].message.content, "why is the sky blue?");
    assert!(page.items[0].message.images.is_empty());
    let history = room.db.history(user.id, conversation, 10, u32::MAX).await.unwrap().unwrap();
    assert_eq!(history[0].message.images, ["aGkh"], "the model sees them again");
}

pub(super) async fn tool_calls_keep_the_order_of_their_keys(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let arguments = serde_json::from_str(r#"{"z":1,"a":{"y":2,"b":3}}"#).unwrap();
    let message = ChatMessage {
        role: Role::Assistant,
        content: "calling".into(),
        thinking: Some("hm".into()),
        images: vec!["aGk=".into(), "eW8=".into()],
        tool_calls: vec![ToolCall { id: "call-1".into(), name: "look".into(), arguments }],
        tool_name: None,
        tool_call_id: None,
    };
    let result = ChatMessage {
        tool_name: Some("look".into()),
        tool_call_id: Some("call-1".into()),
        ..ChatMessage::text(Role::Tool, "42")
    };
    let mut begin = begin(user.id);
    exchange(&mut begin).messages =
        [message, result].map(|message| NewMessage { id: fresh_id(), message }).into();
    let said: Vec<_> = messages_of(&begin).iter().map(|new| new.message.clone()).collect();
    let conversation = stored(&begin).conversation;
    // The reply comes after what it answers.
    exchange(&mut begin).reply = fresh_id();
    room.db.begin_turn(begin).await.unwrap();
    let read = room.db.history(user.id, conversation, 10, u32::MAX).await.unwrap().unwrap();
    assert_eq!(read[0].message, said[0]);
    assert_eq!(read[1].message, said[1]);
    assert_eq!(read[0].message.tool_calls[0].arguments.to_string(), r#"{"z":1,"a":{"y":2,"b":3}}"#);
}
