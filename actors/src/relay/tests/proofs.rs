//! Whatever is cut where, and whatever breaks meanwhile: what was read before and after is the answer.

use std::sync::Arc;

use domain::reply::Delta;
use proptest::{prelude::*, test_runner::TestRunner};
use support::redis::Redis;

use super::ground::*;
use crate::reply::{OnDisconnect, Outcome};

/// What happens to the server while a turn is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Fine,
    Killed,
    Frozen,
    Restarted,
    Absent,
}

#[derive(Debug, Clone)]
enum Step {
    Push(Delta),
    Checkpoint,
    Cut,
    /// What has been written is read before the next step.
    Read,
    Strike,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = "[a-z ß€🦀]{1,40}";
    let step = prop_oneof![
        5 => text.prop_map(|text| Step::Push(Delta::Content(text))),
        2 => text.prop_map(|text| Step::Push(Delta::Thinking(text))),
        1 => (0..9usize).prop_map(|number| Step::Push(Delta::ToolCall(call(number)))),
        3 => Just(Step::Checkpoint),
        2 => Just(Step::Read),
        2 => Just(Step::Cut),
        1 => Just(Step::Strike),
    ];
    proptest::collection::vec(step, 1..24)
}

/// Runs a script through both rooms; the answer as it was heard in all pieces, and as it was written.
async fn play(server: &Redis, owner: &Room, other: &Room, fate: Fate, steps: &[Step]) {
    let mut script = owner.begin(true, OnDisconnect::Continue);
    let mut all = Heard::default();
    let mut reader = other.follow(script.turn, all.at).unwrap();
    let mut heard = Heard::default();
    let mut is_struck = false;
    for step in steps {
        match step {
            Step::Push(delta) => script.push(delta.clone()),
            Step::Checkpoint => script.checkpoint(),
            Step::Read => {
                script.checkpoint();
                let end = script.writer.as_ref().unwrap().answer();
                heard.until(&mut reader, |heard| all.and(heard) == end).await;
            }
            Step::Cut => {
                drop(reader);
                all = Heard { answer: all.and(&heard), at: last(&all, &heard), ..Heard::default() };
                heard = Heard::default();
                reader = other.follow(script.turn, all.at).unwrap();
            }
            Step::Strike if !is_struck => {
                is_struck = true;
                match fate {
                    Fate::Killed => server.kill().unwrap(),
                    Fate::Frozen => server.freeze().unwrap(),
                    Fate::Restarted => server.restart().await.unwrap(),
                    Fate::Fine | Fate::Absent => {}
                }
            }
            Step::Strike => {}
        }
    }
    let written = script.writer.as_ref().unwrap().answer();
    let ending = script.complete();
    let heard = heard.rest(&mut reader).await;
    assert_eq!(all.and(&heard), written);
    assert_eq!(heard.endings[0].outcome, ending.outcome);
    assert!(matches!(ending.outcome, Outcome::Complete(_)));
    if is_struck {
        match fate {
            Fate::Killed => server.restart().await.unwrap(),
            Fate::Frozen => server.unfreeze().unwrap(),
            Fate::Fine | Fate::Restarted | Fate::Absent => {}
        }
    }
}

/// The last place that either was told of.
fn last(before: &Heard, heard: &Heard) -> domain::reply::Position {
    if heard.at == domain::reply::Position::default() { before.at } else { heard.at }
}

fn prove(fate: Fate, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (server, owner, other) = runtime.block_on(async {
        let server = Redis::start().await.unwrap();
        let book = Arc::<Book>::default();
        let url = (fate != Fate::Absent).then(|| server.url());
        let (owner, other) = (room(&book, quick(url.clone())).await, room(&book, quick(url)).await);
        (server, owner, other)
    });
    let mut runner =
        TestRunner::new(ProptestConfig { cases, max_shrink_iters: 20, ..ProptestConfig::default() });
    runner
        .run(&steps(), |steps| {
            runtime.block_on(play(&server, &owner, &other, fate, &steps));
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        owner.end().await;
        other.end().await;
    });
}

#[test]
fn b16_a_cut_anywhere_loses_and_doubles_nothing() {
    prove(Fate::Fine, 60);
}

#[test]
fn b16_nor_without_redis() {
    prove(Fate::Absent, 20);
}

#[test]
fn b16_nor_with_a_redis_that_dies_on_the_way() {
    prove(Fate::Killed, 8);
}

#[test]
fn b16_nor_with_a_redis_that_freezes_on_the_way() {
    prove(Fate::Frozen, 8);
}

#[test]
fn b16_nor_with_a_redis_that_comes_back_empty() {
    prove(Fate::Restarted, 8);
}
