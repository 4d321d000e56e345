//! What the store holds of turns, read beside the service.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Database;

/// A turn with its two messages.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) turn: String,
    pub(super) conversation: String,
    pub(super) status: String,
    pub(super) message: String,
    pub(super) answer: String,
    pub(super) answer_status: String,
}

pub(super) struct Kept {
    /// By question; one that is there twice has two rows.
    pub(super) rows: BTreeMap<String, Vec<Row>>,
    /// Rows of the ledger alone, by their status: whoever left before the commit is in the books, and said nothing.
    pub(super) bare: Vec<String>,
    pub(super) turns: i64,
    pub(super) messages: i64,
}

impl Kept {
    pub(super) async fn read(database: &Database) -> Self {
        let columns = "'turn', t.id, 'conversation', t.conversation_id, 'status', t.status, 'question', u.content, \
                       'message', a.id, 'answer', a.content, 'answer_status', a.status";
        let object = match database {
            Database::Sqlite(_) => {
                let mut columns = columns.to_owned();
                for id in ["t.id", "t.conversation_id", "a.id"] {
                    columns = columns.replace(id, &format!("lower(hex({id}))"));
                }
                format!("json_object({columns})")
            }
            Database::Postgres { .. } => format!("json_build_object({columns})::text"),
        };
        // A turn that lacks one of them is seen by its nulls.
        let sql = format!(
            "SELECT {object} FROM turns t \
             LEFT JOIN messages u ON u.turn_id = t.id AND u.role = 'user' \
             LEFT JOIN messages a ON a.turn_id = t.id AND a.role = 'assistant' ORDER BY t.id"
        );
        let (mut rows, mut bare) = (BTreeMap::<String, Vec<Row>>::new(), Vec::new());
        for row in database.texts(&sql).await {
            let row: Value = serde_json::from_str(&row).unwrap();
            let text = |name: &str| row[name].as_str().unwrap_or("nothing").to_owned();
            let id = |name: &str| text(name).replace('-', "");
            if row["question"].is_null() && row["answer"].is_null() {
                bare.push(text("status"));
                continue;
            }
            let of_question = rows.entry(text("question")).or_default();
            of_question.push(Row {
                turn: id("turn"),
                conversation: id("conversation"),
                status: text("status"),
                message: id("message"),
                answer: text("answer"),
                answer_status: text("answer_status"),
            });
        }
        let turns = database.number("SELECT count(*) FROM turns").await;
        let messages = database.number("SELECT count(*) FROM messages").await;
        Self { rows, bare, turns, messages }
    }
}

impl Kept {
    /// What is wrong with it whatever was asked, when so many left or were refused.
    pub(super) fn faults(&self, without_an_answer: usize) -> Vec<String> {
        let mut faults = Vec::new();
        if self.bare.iter().any(|status| !matches!(status.as_str(), "cancelled" | "interrupted"))
            || self.bare.len() > without_an_answer
        {
            faults
                .push(format!("{without_an_answer} gave up, and turns without messages are {:?}", self.bare));
        }
        if self.messages != 2 * (self.turns - self.bare.len() as i64) {
            faults.push(format!("{} messages of {} turns", self.messages, self.turns));
        }
        for (question, rows) in self.rows.iter().filter(|(_, rows)| rows.len() != 1) {
            faults.push(format!("stored {} times: {question}", rows.len()));
        }
        faults
    }
}

/// Turns whose lease ran out before `at`, in time since 1970, and that stream nevertheless.
pub(super) async fn overdue(database: &Database, at: std::time::Duration) -> i64 {
    let micros = at.as_micros();
    let before = match database {
        Database::Sqlite(_) => micros.to_string(),
        Database::Postgres { .. } => format!("to_timestamp({micros} / 1e6)"),
    };
    database
        .number(&format!("SELECT count(*) FROM turns WHERE status = 'streaming' AND lease_until < {before}"))
        .await
}
