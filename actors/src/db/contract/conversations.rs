//! Conversations as their owner, and nobody else, reads them.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    chat::{ChatMessage, Role, ToolCall},
    conversation::{
        Activity, CONVERSATIONS_PER_USER, Conversation, ConversationChange, NewMessage, UNTITLED,
    },
    id::{ConversationId, UserId},
    turn::{BeginTurn, Begun, TurnStatus},
};
use futures_util::future::{join, join_all};
use uuid::Uuid;

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::{
    clock::{fresh_id, fresh_id_after},
    db::DbError,
};

fn renamed(title: &str) -> ConversationChange {
    ConversationChange { title: Some(title.into()), ..ConversationChange::default() }
}

fn minutes(count: i64) -> DateTime<Utc> {
    noon() + TimeDelta::minutes(count)
}

/// A turn that follows `parent`; without messages it is another answer to it.
fn begin_after(user: UserId, conversation: ConversationId, parent: Uuid, is_anew: bool) -> BeginTurn {
    let mut begin = begin_in(user, conversation);
    let said = exchange(&mut begin);
    said.parent = Some(parent);
    said.messages.iter_mut().for_each(|new| new.id = fresh_id_after(parent));
    if is_anew {
        said.messages.clear();
    }
    said.reply = fresh_id_after(said.messages.last().map_or(parent, |last| last.id.as_uuid()));
    begin
}

/// The ids of what a turn is made of: what its caller said, then its answer.
fn ids(begin: &BeginTurn) -> Vec<Uuid> {
    let said = messages_of(begin).iter().map(|new| new.id.as_uuid());
    said.chain([stored(begin).message.as_uuid()]).collect()
}

/// The ids of a branch that ends there.
async fn branch(room: &Running, user: UserId, conversation: ConversationId, end: Option<Uuid>) -> Vec<Uuid> {
    let branch = room.db.branch(user, conversation, end, 1_000, u32::MAX).await.unwrap().unwrap();
    branch.messages.iter().map(|message| message.id.as_uuid()).collect()
}

/// Which of the owner's conversations are listed, in their order.
async fn listed(room: &Running, owner: UserId) -> Vec<ConversationId> {
    let mut read = Vec::new();
    let mut before: Option<Activity> = None;
    loop {
        let page = room.db.conversations(owner, before, 2).await.unwrap();
        assert!(page.items.len() <= 2);
        read.extend(page.items.iter().map(|conversation| conversation.id));
        let Some(next) = page.next else { return read };
        before = Some(next.to_string().parse().unwrap());
    }
}

pub(super) async fn a17_nobody_reads_or_changes_what_is_somebody_elses(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let begin = begin(ada.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    let id = stored(&begin).conversation;
    assert!(room.db.conversation(ada.id, id).await.unwrap().is_some());
    assert_eq!(room.db.conversation(eve.id, id).await, Ok(None));
    assert_eq!(room.db.messages(eve.id, id, None, 10).await.unwrap_err(), DbError::NotFound);
    assert_eq!(room.db.messages(ada.id, fresh_id(), None, 10).await.unwrap_err(), DbError::NotFound);
    let said = messages_of(&begin)[0].id.as_uuid();
    for end in [None, Some(said), Some(id.as_uuid())] {
        assert!(room.db.branch(eve.id, id, end, 10, u32::MAX).await.unwrap().is_none());
    }
    assert!(room.db.conversations(eve.id, None, 10).await.unwrap().items.is_empty());
    let stolen = room.db.change_conversation(eve.id, id, renamed("mine"), noon()).await;
    assert_eq!(stolen, Err(DbError::NotFound));
    assert_eq!(room.db.delete_conversation(eve.id, id, noon()).await, Err(DbError::NotFound));
    assert_eq!(room.db.begin_turn(begin_after(eve.id, id, said, true)).await, Err(DbError::NotFound));
    // Somebody else's message is in none of her conversations.
    let hers = conversation("hers");
    room.db.create_conversation(eve.id, hers.clone()).await.unwrap();
    assert!(branch(&room, eve.id, hers.id, Some(said)).await.is_empty());
    assert_eq!(room.db.begin_turn(begin_after(eve.id, hers.id, said, true)).await, Err(DbError::NotFound));
    assert_eq!(room.db.conversation(ada.id, id).await.unwrap().unwrap().title, "the sky");
    // An empty page is not a missing conversation.
    let end = room.db.messages(ada.id, id, Some(uuid::Uuid::max()), 10).await.unwrap();
    assert!(end.items.is_empty() && end.next.is_none());
}

pub(super) async fn conversations_page_from_the_latest_activity_with_ties_by_id(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut made = Vec::new();
    for minute in [0, 1, 0, 0, 1, 0, 2] {
        let made_then = Conversation {
            updated_at: minutes(minute),
            system_prompt: Some("be kind".into()),
            ..conversation("c")
        };
        room.db.create_conversation(user.id, made_then.clone()).await.unwrap();
        made.push(made_then);
    }
    made.sort_by_key(|conversation| std::cmp::Reverse(conversation.activity()));
    assert_eq!(listed(&room, user.id).await, made.iter().map(|made| made.id).collect::<Vec<_>>());
    let first = room.db.conversations(user.id, None, 1).await.unwrap().items.remove(0);
    assert_eq!(first, Conversation { system_prompt: None, ..made[0].clone() }, "a list shows no prompts");
    assert_eq!(room.db.conversation(user.id, made[0].id).await, Ok(Some(made[0].clone())));
}

pub(super) async fn whatever_happens_in_a_conversation_brings_it_to_the_front(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (first, second) = (begin(user.id), begin(user.id));
    for begin in [&first, &second] {
        room.db.begin_turn(begin.clone()).await.unwrap();
    }
    let (a, b) = (stored(&first).conversation, stored(&second).conversation);
    assert_eq!(listed(&room, user.id).await, [b, a]);
    let later = |begin: BeginTurn, minute| BeginTurn { created_at: minutes(minute), ..begin };
    room.db.begin_turn(later(begin_in(user.id, a), 1)).await.unwrap();
    assert_eq!(listed(&room, user.id).await, [a, b], "a turn");
    room.db.change_conversation(user.id, b, renamed("seas"), minutes(2)).await.unwrap();
    assert_eq!(listed(&room, user.id).await, [b, a], "a name");
    let anew = begin_after(user.id, a, messages_of(&first)[0].id.as_uuid(), true);
    room.db.begin_turn(later(anew, 3)).await.unwrap();
    assert_eq!(listed(&room, user.id).await, [a, b], "another answer");
    // What is so already, and what an instance whose clock is behind does, move nothing back or forth.
    room.db.change_conversation(user.id, b, renamed("seas"), minutes(4)).await.unwrap();
    room.db.change_conversation(user.id, a, renamed("skies"), minutes(1)).await.unwrap();
    assert_eq!(listed(&room, user.id).await, [a, b]);
    assert_eq!(room.db.conversation(user.id, a).await.unwrap().unwrap().updated_at, minutes(3));
}

pub(super) async fn a_conversation_is_made_and_changed_with_the_words_of_its_title(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let made = Conversation { system_prompt: Some("be kind".into()), ..conversation("Skies & seas") };
    room.db.create_conversation(user.id, made.clone()).await.unwrap();
    assert_eq!(room.db.conversation(user.id, made.id).await, Ok(Some(made.clone())));
    room.db.begin_turn(begin(user.id)).await.unwrap();
    let words = async |words: &str| {
        ground.count(&format!("SELECT count(*) FROM conversations WHERE title_words = '{words}'")).await
    };
    assert_eq!((words(" skies seas ").await, words(" the sky ").await), (1, 1));

    let change = ConversationChange { title: Some("Blue? BLUE!".into()), system_prompt: Some(None) };
    let after = Conversation {
        title: "Blue? BLUE!".into(),
        system_prompt: None,
        updated_at: minutes(1),
        ..made.clone()
    };
    for minute in [1, 2] {
        let changed = room.db.change_conversation(user.id, made.id, change.clone(), minutes(minute)).await;
        assert_eq!(changed.as_ref(), Ok(&after));
    }
    assert_eq!(room.db.conversation(user.id, made.id).await, Ok(Some(after)));
    assert_eq!((words(" blue blue ").await, words(" skies seas ").await), (1, 0));
    let unknown = room.db.change_conversation(user.id, fresh_id(), renamed("x"), noon()).await;
    assert_eq!(unknown, Err(DbError::NotFound));
    assert_eq!(room.db.create_conversation(fresh_id(), conversation("x")).await, Err(DbError::NotFound));
}

pub(super) async fn a_conversation_without_a_title_takes_that_of_its_first_turn_and_no_other(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await.id;
    let titled = |conversation, title: &str| {
        let mut begin = begin_in(user, conversation);
        exchange(&mut begin).title_if_untitled = Some(title.into());
        begin
    };
    let (bare, renamed_since) = (conversation(UNTITLED), conversation(UNTITLED));
    for made in [&bare, &renamed_since] {
        room.db.create_conversation(user, made.clone()).await.unwrap();
    }
    let mut orphan = titled(bare.id, "refused");
    exchange(&mut orphan).parent = Some(fresh_id());
    assert_eq!(room.db.begin_turn(orphan).await, Err(DbError::NotFound));
    room.db.change_conversation(user, renamed_since.id, renamed("Ships"), minutes(1)).await.unwrap();

    // The first two may share a transaction.
    let begins =
        [titled(bare.id, "Why blue?"), titled(bare.id, "Why blue?"), titled(renamed_since.id, "Whales")];
    for begun in join_all(begins.into_iter().map(|begin| room.db.begin_turn(begin))).await {
        assert_eq!(begun, Ok(Begun::New));
    }
    room.db.begin_turn(titled(bare.id, "Why black?")).await.unwrap();
    for (id, title, words) in [(bare.id, "Why blue?", "why blue"), (renamed_since.id, "Ships", "ships")] {
        let read = room.db.conversation(user, id).await.unwrap().unwrap();
        assert_eq!(read.title, title);
        let found = format!("SELECT count(*) FROM conversations WHERE title_words = ' {words} '");
        assert_eq!(ground.count(&found).await, 1, "{title}");
    }
}

pub(super) async fn an_account_makes_no_more_silent_conversations_than_it_may(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let first = conversation("first");
    room.db.create_conversation(user.id, first.clone()).await.unwrap();
    let random = if ground.config.database_url.is_some() { "gen_random_uuid()" } else { "randomblob(16)" };
    let others = CONVERSATIONS_PER_USER - 2;
    ground
        .execute(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {others})
             INSERT INTO conversations (id, user_id, title, created_at, updated_at)
             SELECT {random}, user_id, title, created_at, updated_at FROM conversations, n"
        ))
        .await
        .unwrap();
    // Of two at once, one is the last.
    let make = || room.db.create_conversation(user.id, conversation("last"));
    let (a, b) = join(make(), make()).await;
    assert_eq!([&a, &b].into_iter().filter(|made| made.is_ok()).count(), 1, "{a:?} {b:?}");
    assert_eq!(make().await, Err(DbError::Conflict("too many conversations")));
    assert_eq!(room.db.create_conversation(other.id, conversation("hers")).await, Ok(()));
    // Talking goes on, and what is thrown away makes room at once.
    room.db.begin_turn(begin(user.id)).await.unwrap();
    for id in [first.id, room.db.conversations(user.id, None, 1).await.unwrap().items[0].id] {
        assert!(make().await.is_err());
        room.db.delete_conversation(user.id, id, noon()).await.unwrap();
    }
    assert_eq!(make().await, Ok(()));
}

pub(super) async fn a_conversation_that_was_thrown_away_is_seen_by_nobody(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();
    settle(&room.db, settlement(&begun, "because")).await.unwrap();
    let kept = begin(user.id);
    room.db.begin_turn(kept.clone()).await.unwrap();
    let id = stored(&begun).conversation;
    let said = messages_of(&begun)[0].id.as_uuid();
    room.db.delete_conversation(user.id, id, minutes(1)).await.unwrap();

    assert_eq!(listed(&room, user.id).await, [stored(&kept).conversation]);
    assert_eq!(room.db.conversation(user.id, id).await, Ok(None));
    for after in [None, Some(Uuid::max())] {
        assert_eq!(room.db.messages(user.id, id, after, 10).await.unwrap_err(), DbError::NotFound);
    }
    for end in [None, Some(said), Some(id.as_uuid())] {
        assert!(room.db.branch(user.id, id, end, 10, u32::MAX).await.unwrap().is_none());
    }
    assert_eq!(room.db.begin_turn(begin_in(user.id, id)).await, Err(DbError::NotFound));
    assert_eq!(room.db.begin_turn(begin_after(user.id, id, said, true)).await, Err(DbError::NotFound));
    let mut again = begin(user.id);
    exchange(&mut again).conversation = id;
    assert_eq!(room.db.begin_turn(again).await, Err(DbError::NotFound), "its id is not free either");
    let renamed = room.db.change_conversation(user.id, id, renamed("back"), minutes(2)).await;
    assert_eq!(renamed, Err(DbError::NotFound));
    assert_eq!(room.db.delete_conversation(user.id, id, minutes(3)).await, Err(DbError::NotFound));
    assert_eq!(room.db.delete_conversation(user.id, fresh_id(), minutes(3)).await, Err(DbError::NotFound));
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 2, "its usage stays");
}

pub(super) async fn a_turn_whose_conversation_is_thrown_away_ends_in_peace(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (unseen, gone) = (begin(user.id), begin(user.id));
    for begin in [&unseen, &gone] {
        room.db.begin_turn(begin.clone()).await.unwrap();
        room.db.delete_conversation(user.id, stored(begin).conversation, minutes(1)).await.unwrap();
    }
    // One is still there; of the other, nothing is left when its turn ends.
    let id = stored(&gone).conversation.as_uuid();
    let id =
        if ground.config.database_url.is_some() { format!("'{id}'") } else { format!("x'{}'", id.simple()) };
    for sql in ["DELETE FROM messages WHERE conversation_id =", "DELETE FROM conversations WHERE id ="] {
        ground.execute(&format!("{sql} {id}")).await.unwrap();
    }
    for begin in [&unseen, &gone] {
        room.db.checkpoint(checkpoint(begin, 1, "because"));
        assert_eq!(settle(&room.db, settlement(begin, "because of Rayleigh")).await, Ok(()));
    }
    assert_eq!(
        ground.count("SELECT count(*) FROM turns WHERE status = 'complete' AND lease_until IS NULL").await,
        2
    );
    assert_eq!(ground.count("SELECT count(*) FROM conversations WHERE deleted_at IS NULL").await, 0);
    assert!(listed(&room, user.id).await.is_empty());
}

pub(super) async fn a_turn_follows_nothing_but_a_message_of_its_conversation(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (first, other) = (begin(user.id), begin(user.id));
    for begin in [&first, &other] {
        room.db.begin_turn(begin.clone()).await.unwrap();
    }
    let id = stored(&first).conversation;
    for wrong in [fresh_id(), ids(&other)[0], stored(&other).conversation.as_uuid(), first.turn.as_uuid()] {
        assert!(branch(&room, user.id, id, Some(wrong)).await.is_empty());
        assert_eq!(room.db.begin_turn(begin_after(user.id, id, wrong, false)).await, Err(DbError::NotFound));
    }
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 2);
    for right in [id.as_uuid(), ids(&first)[0], ids(&first)[1]] {
        let begin = begin_after(user.id, id, right, false);
        room.db.begin_turn(begin.clone()).await.unwrap();
        let page =
            room.db.messages(user.id, id, Some(messages_of(&first)[0].id.as_uuid()), 100).await.unwrap();
        let said = page.items.iter().find(|message| message.turn == begin.turn).unwrap();
        assert_eq!((said.id, said.parent), (messages_of(&begin)[0].id, Some(right)));
        let answer = page.items.iter().find(|message| message.id == stored(&begin).message).unwrap();
        assert_eq!(answer.parent, Some(said.id.as_uuid()));
    }
}

pub(super) async fn a_branch_leaves_out_what_is_said_on_others(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    // first ─┬─ answer ─ second ─ answer
    //        └─ anew ─ third ─ answer          and another beginning
    let first = begin(user.id);
    let id = stored(&first).conversation;
    room.db.begin_turn(first.clone()).await.unwrap();
    let [said, answer] = ids(&first)[..] else { unreachable!() };
    let second = begin_after(user.id, id, answer, false);
    room.db.begin_turn(second.clone()).await.unwrap();
    let anew = begin_after(user.id, id, said, true);
    room.db.begin_turn(anew.clone()).await.unwrap();
    let third = begin_after(user.id, id, ids(&anew)[0], false);
    room.db.begin_turn(third.clone()).await.unwrap();
    let beginning = begin_after(user.id, id, id.as_uuid(), false);
    room.db.begin_turn(beginning.clone()).await.unwrap();

    let whole = |parts: &[&[Uuid]]| parts.concat();
    let end = |begin: &BeginTurn| ids(begin).last().copied();
    let second_branch = whole(&[&[said, answer], &ids(&second)]);
    let third_branch = whole(&[&[said], &ids(&anew), &ids(&third)]);
    assert_eq!(branch(&room, user.id, id, end(&second)).await, second_branch);
    assert_eq!(branch(&room, user.id, id, end(&third)).await, third_branch);
    assert_eq!(branch(&room, user.id, id, Some(said)).await, [said]);
    assert_eq!(branch(&room, user.id, id, None).await, ids(&beginning), "the newest is another beginning");
    assert!(branch(&room, user.id, id, Some(id.as_uuid())).await.is_empty());
    let of_three = room.db.branch(user.id, id, end(&third), 3, u32::MAX).await.unwrap().unwrap().messages;
    let of_three: Vec<_> = of_three.iter().map(|message| message.id.as_uuid()).collect();
    assert_eq!(of_three, third_branch[1..]);
    // All of them are read by their owner.
    let page = room.db.messages(user.id, id, None, 100).await.unwrap();
    assert!(page.items.len() == 9 && page.items.is_sorted_by_key(|message| message.id));
}

pub(super) async fn messages_without_parents_follow_what_was_made_before(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let first = begin(user.id);
    let id = stored(&first).conversation;
    let (old, foreign) = (begin_in(user.id, id), begin(user.id));
    let mut all = Vec::new();
    for begin in [&first, &foreign, &old] {
        room.db.begin_turn(begin.clone()).await.unwrap();
    }
    // As an older version left them.
    ground.execute("UPDATE messages SET parent_id = NULL").await.unwrap();
    all.extend(ids(&first).into_iter().chain(ids(&old)));
    assert_eq!(branch(&room, user.id, id, None).await, all);
    assert_eq!(branch(&room, user.id, id, Some(all[1])).await, all[..2]);
    let new = begin_after(user.id, id, all[2], true);
    room.db.begin_turn(new.clone()).await.unwrap();
    let anew = [&all[..3], &ids(&new)].concat();
    assert_eq!(branch(&room, user.id, id, None).await, anew, "the old ones above a new branch");
}

pub(super) async fn turns_at_once_in_one_conversation_see_nothing_of_each_other(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let first = begin(user.id);
    let id = stored(&first).conversation;
    room.db.begin_turn(first.clone()).await.unwrap();
    settle(&room.db, settlement(&first, "because")).await.unwrap();
    let answer = stored(&first).message.as_uuid();
    let (a, b) = (begin_after(user.id, id, answer, false), begin_after(user.id, id, answer, false));
    let (begun_a, begun_b) = join(room.db.begin_turn(a.clone()), room.db.begin_turn(b.clone())).await;
    assert!(begun_a.is_ok() && begun_b.is_ok());
    for begin in [&a, &b] {
        settle(&room.db, settlement(begin, "said at once")).await.unwrap();
    }
    for begin in [&a, &b] {
        let end = stored(begin).message.as_uuid();
        assert_eq!(branch(&room, user.id, id, Some(end)).await, [ids(&first), ids(begin)].concat());
    }
    let page = room.db.messages(user.id, id, None, 100).await.unwrap();
    assert_eq!(page.items.len(), 6);
    assert!(page.items.iter().all(|message| message.status == TurnStatus::Complete));
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
