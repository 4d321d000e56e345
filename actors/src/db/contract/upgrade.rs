//! A release before this one beside this one, on this one's schema: while instances are replaced one by one both are there.
//!
//! The old release is here as the statements it sends. They are kept as they were; a migration that they cannot live with is
//! a migration too early.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{ConversationId, UserId},
    turn::{BeginTurn, StoredReply, TurnStatus},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};
use uuid::Uuid;

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::clock::fresh_id;

/// A connection of the old release.
struct Previous {
    statements: BTreeMap<&'static str, &'static str>,
    db: Database,
}

enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Does the same on either database.
macro_rules! on {
    ($database:expr, $db:ident => $does:expr) => {
        match $database {
            Database::Sqlite($db) => $does,
            Database::Postgres($db) => $does,
        }
    };
}

impl Previous {
    async fn on(ground: &Ground) -> Self {
        let (db, texts) = match &ground.config.database_url {
            None => (Database::Sqlite(ground.sqlite_connection().await), include_str!("previous/sqlite.sql")),
            Some(url) => {
                let db = PgConnection::connect(url.reveal()).await.unwrap();
                (Database::Postgres(db), include_str!("previous/postgres.sql"))
            }
        };
        let sections = texts.split("\n-- ").skip(1).map(|section| section.split_once(":\n").unwrap());
        Self { statements: sections.collect(), db }
    }

    fn statement(&self, name: &str) -> AssertSqlSafe<&'static str> {
        AssertSqlSafe(self.statements[name])
    }

    /// Writes rows; how many it changed.
    async fn writes(&mut self, name: &str, rows: &[Value]) -> u64 {
        let (sql, rows) = (self.statement(name), json!(rows).to_string());
        on!(&mut self.db, db => sqlx::query(sql).bind(rows).execute(db).await.unwrap().rows_affected())
    }

    /// The turns that it would let in.
    async fn admits(&mut self, places: &[Value]) -> Vec<Uuid> {
        let (sql, places) = (self.statement("admit"), json!(places).to_string());
        on!(&mut self.db, db => sqlx::query_scalar(sql).bind(places).fetch_all(db).await.unwrap())
    }

    async fn begins(&mut self, begin: &BeginTurn) {
        let exchange = begin.exchange.as_ref().unwrap();
        let (at, lease_until) = (micros(begin.created_at), micros(begin.lease_until));
        let (turn, conversation) = (begin.turn, exchange.conversation);
        let place = json!({"turn": turn, "user": begin.user, "conversation": conversation,
                           "title": exchange.new_conversation_title, "at": at});
        self.writes("create conversations", std::slice::from_ref(&place)).await;
        assert_eq!(self.admits(&[place]).await, [turn.as_uuid()]);
        let row = json!({"id": turn, "user": begin.user, "conversation": conversation, "model": begin.model,
                         "owner": begin.owner, "lease_until": lease_until, "at": at});
        assert_eq!(self.writes("open turns", std::slice::from_ref(&row)).await, 1);
        let message = |id: Uuid, role: &str, content: &str, status: &str| {
            json!({"id": id, "conversation": conversation, "turn": turn, "role": role, "content": content,
                   "thinking": null, "images": null, "tool_calls": null, "tool_name": null, "tool_call_id": null,
                   "status": status, "at": at})
        };
        let said = &exchange.messages[0];
        let messages = [
            message(said.id.as_uuid(), "user", &said.message.content, "complete"),
            message(exchange.reply.as_uuid(), "assistant", "", "streaming"),
        ];
        assert_eq!(self.writes("put messages", &messages).await, 2);
        assert_eq!(self.writes("touch conversations", &[row]).await, 1);
    }

    async fn checkpoints(&mut self, begin: &BeginTurn, seq: u32, content: &str) -> u64 {
        let row = json!({"id": stored(begin).message, "turn": begin.turn, "seq": seq, "content": content,
                         "thinking": null, "tool_calls": null});
        self.writes("checkpoint", &[row]).await
    }

    /// Ends a turn; of how many it was the end.
    async fn settles(&mut self, begin: &BeginTurn, content: &str) -> u64 {
        let answer = json!({"id": stored(begin).message, "turn": begin.turn, "content": content, "thinking": null,
                            "tool_calls": null, "status": "complete"});
        self.writes("settle answers", &[answer]).await;
        let conversation = stored(begin).conversation;
        let row = json!({"id": begin.turn, "user": begin.user, "conversation": conversation, "model": begin.model,
                         "status": "complete", "failure": null, "finish_reason": "stop", "prompt_tokens": 11,
                         "completion_tokens": 7, "usage_source": "reported", "queued_ms": 5, "load_ms": 0,
                         "first_token_ms": 40, "total_ms": 900, "at": micros(begin.created_at),
                         "ended_at": micros(noon() + TimeDelta::seconds(1))});
        self.writes("settle turns", &[row]).await
    }

    async fn renews(&mut self, begin: &BeginTurn, until: DateTime<Utc>) {
        let (sql, owner) = (self.statement("renew"), begin.owner.as_uuid());
        let renewed = match &mut self.db {
            Database::Sqlite(db) => {
                sqlx::query(sql).bind(micros(until)).bind(owner).execute(db).await.unwrap().rows_affected()
            }
            Database::Postgres(db) => {
                sqlx::query(sql).bind(until).bind(owner).execute(db).await.unwrap().rows_affected()
            }
        };
        assert_eq!(renewed, 1);
    }

    async fn sweeps(&mut self, now: DateTime<Utc>) {
        let turns = self.statement("sweep turns");
        match &mut self.db {
            Database::Sqlite(db) => {
                let messages = AssertSqlSafe(self.statements["sweep messages"]);
                sqlx::query(messages).bind(micros(now)).execute(&mut *db).await.unwrap();
                sqlx::query(turns).bind(micros(now)).bind(micros(now)).execute(db).await.unwrap();
            }
            Database::Postgres(db) => {
                sqlx::query(turns).bind(now).execute(db).await.unwrap();
            }
        }
    }

    /// The titles it lists.
    async fn lists(&mut self, owner: UserId) -> Vec<String> {
        let (sql, owner) = (self.statement("list"), owner.as_uuid());
        on!(&mut self.db, db => {
            let rows = sqlx::query(sql).bind(owner).bind(Uuid::max()).bind(10_i64).fetch_all(db).await.unwrap();
            rows.iter().map(|row| row.get("title")).collect()
        })
    }

    /// A conversation's title, and its messages in order as it reads them (`messages`) or as a model is to see them (`newest`).
    async fn reads(&mut self, owner: UserId, id: ConversationId) -> (String, [Vec<(String, String)>; 2]) {
        let (one, messages, newest) =
            (self.statement("one"), self.statement("messages"), self.statement("newest"));
        let (id, owner) = (id.as_uuid(), owner.as_uuid());
        on!(&mut self.db, db => {
            let row = sqlx::query(one).bind(id).bind(owner).fetch_one(&mut *db).await.unwrap();
            let asked = sqlx::query(messages).bind(id).bind(owner).bind(Uuid::nil()).bind(10_i64);
            let read = asked.fetch_all(&mut *db).await.unwrap();
            let asked = sqlx::query(newest).bind(id).bind(owner).bind(10_i64).bind(1_000_000_i64);
            let mut seen = asked.fetch_all(&mut *db).await.unwrap();
            seen.reverse();
            let said = [read, seen].map(|rows| rows.iter().map(|row| (row.get("content"), row.get("status"))).collect());
            (row.get("title"), said)
        })
    }
}

fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// An answer as this release reads it.
async fn reads(room: &Running, begin: &BeginTurn) -> (String, TurnStatus) {
    let history =
        room.db.history(begin.user, stored(begin).conversation, 100, u32::MAX).await.unwrap().unwrap();
    let answer = history.into_iter().find(|message| message.id == stored(begin).message).unwrap();
    (answer.message.content, answer.status)
}

/// The text and place of a turn's answer, as this release finds it by the turn.
async fn answer_of(room: &Running, begin: &BeginTurn) -> (String, Option<StoredReply>) {
    let (turn, answer) = room.db.turn(begin.user, begin.turn).await.unwrap().unwrap();
    (answer.content, turn.stored)
}

fn said(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(text, status)| ((*text).to_owned(), (*status).to_owned())).collect()
}

/// A later change of the turn's lane is answered after what nobody waits for.
async fn written(room: &Running, begin: &BeginTurn) {
    let conversation = stored(begin).conversation;
    let taken = BeginTurn { turn: begin.turn, ..begin_in(begin.user, conversation) };
    room.db.begin_turn(taken).await.unwrap_err();
}

pub(super) async fn e06_a_turn_of_the_previous_release_is_this_ones_too(mut ground: Ground) {
    // Both are at work on the store, so only leases tell who is dead.
    ground.config.exclusive = false;
    let room = ground.room().await;
    let mut previous = Previous::on(&ground).await;
    let user = some_user(&room.db).await;
    let theirs = begin(user.id);
    previous.begins(&theirs).await;
    assert_eq!(reads(&room, &theirs).await, (String::new(), TurnStatus::Streaming));
    let listed = room.db.conversations(user.id, None, 10).await.unwrap().items;
    assert_eq!(listed.iter().map(|one| one.title.as_str()).collect::<Vec<_>>(), ["the sky"]);

    assert_eq!(previous.checkpoints(&theirs, 1, "because").await, 1);
    assert_eq!(reads(&room, &theirs).await, ("because".into(), TurnStatus::Streaming));
    assert_eq!(answer_of(&room, &theirs).await, ("because".into(), Some(stored(&theirs))));
    room.db.checkpoint(checkpoint(&theirs, 1, "not this"));
    written(&room, &theirs).await;
    assert_eq!(reads(&room, &theirs).await.0, "because");

    previous.renews(&theirs, noon() + TimeDelta::minutes(5)).await;
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), noon() + TimeDelta::minutes(4)).await, Ok(0));
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), noon() + TimeDelta::minutes(6)).await, Ok(1));
    assert_eq!(reads(&room, &theirs).await.1, TurnStatus::Interrupted);

    assert_eq!(previous.settles(&theirs, "because of Rayleigh").await, 1, "an end comes late at worst");
    assert_eq!(reads(&room, &theirs).await, ("because of Rayleigh".into(), TurnStatus::Complete));
    settle(&room.db, settlement(&theirs, "another end")).await.unwrap();
    assert_eq!(reads(&room, &theirs).await.0, "because of Rayleigh");
    let row =
        "SELECT count(*) FROM turns WHERE status = 'complete' AND prompt_tokens = 11 AND total_ms = 900";
    assert_eq!(ground.count(row).await, 1);
}

pub(super) async fn e06_a_turn_of_this_release_is_the_previous_ones_too(ground: Ground) {
    let room = ground.room().await;
    let mut previous = Previous::on(&ground).await;
    let user = some_user(&room.db).await;
    let first = begin(user.id);
    let conversation = stored(&first).conversation;
    room.db.begin_turn(first.clone()).await.unwrap();
    assert_eq!(previous.checkpoints(&first, 3, "because").await, 1);
    assert_eq!(previous.checkpoints(&first, 2, "be").await, 0);
    room.db.renew_leases(first.owner, noon() + TimeDelta::minutes(5)).await.unwrap();
    previous.sweeps(noon() + TimeDelta::minutes(4)).await;
    assert_eq!(reads(&room, &first).await, ("because".into(), TurnStatus::Streaming));
    previous.sweeps(noon() + TimeDelta::minutes(6)).await;
    assert_eq!(reads(&room, &first).await, ("because".into(), TurnStatus::Interrupted));
    settle(&room.db, settlement(&first, "because of Rayleigh")).await.unwrap();
    assert_eq!(previous.settles(&first, "another end").await, 0);

    // Each goes on where the other was.
    let theirs = begin_in(user.id, conversation);
    previous.begins(&theirs).await;
    assert_eq!(previous.settles(&theirs, "at noon").await, 1);
    let ours = begin_in(user.id, conversation);
    room.db.begin_turn(ours.clone()).await.unwrap();
    assert_eq!(previous.settles(&ours, "and at night").await, 1);
    for (begin, text) in [(&theirs, "at noon"), (&ours, "and at night")] {
        assert_eq!(answer_of(&room, begin).await, (text.into(), Some(stored(begin))));
    }

    let question = ("why is the sky blue?", "complete");
    let all = said(&[
        question,
        ("because of Rayleigh", "complete"),
        question,
        ("at noon", "complete"),
        question,
        ("and at night", "complete"),
    ]);
    assert_eq!(previous.reads(user.id, conversation).await, ("the sky".into(), [all.clone(), all.clone()]));
    assert_eq!(previous.lists(user.id).await, ["the sky"]);
    let read = room.db.messages(user.id, conversation, None, 10).await.unwrap().items;
    let read: Vec<_> = read
        .into_iter()
        .map(|message| (message.message.content, message.status.as_str().to_owned()))
        .collect();
    assert_eq!(read, all);
    // What is not its user's it still refuses.
    let stranger = json!({"turn": fresh_id::<Uuid>(), "user": some_user(&room.db).await.id,
                          "conversation": conversation, "title": null, "at": 0});
    assert_eq!(previous.admits(&[stranger]).await, [] as [Uuid; 0]);
}
