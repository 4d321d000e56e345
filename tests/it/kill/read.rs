//! What the service shows of the turns, page by page, to whom they belong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;

use super::{
    kept::Kept,
    told::{Asked, Told},
};
use crate::harness::Call;

/// All pages of a list.
async fn list(addr: SocketAddr, access: &str, path: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = Call::new(addr, "GET", &format!("{path}?limit=100{cursor}")).bearer(access);
        let page = page.send().await.expect_status(200).json();
        all.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

/// Holds what the accounts read against the store: the same conversations, in each of which every question stands once, in
/// the order it was asked, with its answer after it.
pub(super) async fn check(
    addr: SocketAddr,
    accounts: &[String],
    told: &[Vec<Told>],
    kept: &Kept,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expected = BTreeMap::<String, Vec<&Asked>>::new();
    for told in told.iter().flatten() {
        // A caller's conversation is asked one thing after the other.
        if let Some([row]) = kept.rows.get(&told.asked.question).map(Vec::as_slice) {
            expected.entry(row.conversation.clone()).or_default().push(&told.asked);
        }
    }
    let mut shown = BTreeSet::new();
    for access in accounts {
        for conversation in list(addr, access, "/v1/conversations").await {
            let id = conversation["id"].as_str().unwrap();
            let messages = list(addr, access, &format!("/v1/conversations/{id}/messages")).await;
            let key = id.replace('-', "");
            let Some(asked) = expected.get(&key) else {
                faults.push(format!("nobody began this: {conversation}"));
                continue;
            };
            let said: Vec<_> = asked
                .iter()
                .flat_map(|asked| {
                    let answer = &kept.rows[&asked.question][0].answer;
                    [("user".to_owned(), asked.question.clone()), ("assistant".to_owned(), answer.clone())]
                })
                .collect();
            let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
            let read: Vec<_> =
                messages.iter().map(|message| (text(message, "role"), text(message, "content"))).collect();
            if read != said {
                faults.push(format!("not what was said, or not in order: {conversation} {read:?}"));
            }
            shown.insert(key);
        }
    }
    faults.extend(expected.keys().filter(|id| !shown.contains(*id)).map(|id| format!("not shown: {id}")));
    faults
}
