//! The service killed under load, again and again, on one store: nothing that was acknowledged is lost, and nothing is done
//! twice (E2, F1).
//!
//! ```text
//! callers ──▶ the service, killed and started again ──▶ fake Ollama
//!    │ what each was told            │ rows                │ what it was asked
//!    └──────────────────────────▶ check ◀──────────────────┘
//! ```
//!
//! In the style of Jepsen: who asks keeps what it was told, whatever happens, and at the end all of it is held against the
//! store. What was told is there exactly once, in order and to the letter; what was not told is there once or not at all.
//!
//! Small in the suite, where the last life's clock is ahead of every lease; `scripts/prove kill` waits the leases out.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

mod aim;
mod caller;
mod check;
mod dropped;
mod ground;
mod kept;
mod live;
mod read;
mod scene;
mod stalled;
mod told;

use support::fake_ollama::Request;
use tokio::time::Instant;

use self::{
    aim::Aim,
    caller::all_ask,
    check::{Fate, check},
    ground::Ground,
    kept::Kept,
};
use crate::harness::{Random, Store, asked};

/// Kills of the suite.
const KILLS: usize = 15;

/// Kills of which each fate of a turn is to be seen.
const MANY: usize = 100;

/// What each fate is called, in the order of a turn's life.
const FATES: [Fate; 6] = [
    Fate::BeforeItsCommit,
    Fate::InTheQueue,
    Fate::BetweenCommitAndCall,
    Fate::BeforeTheFirstCheckpoint,
    Fate::MidStream,
    Fate::AfterItsSettlement,
];

/// What the model server was asked; to load a model is no question.
fn questions(requests: Vec<Request>) -> impl Iterator<Item = String> {
    let chats = requests.into_iter().filter(|request| request.path == "/api/chat");
    chats.filter_map(|request| {
        Some(request.json()["messages"].as_array()?.last()?["content"].as_str()?.to_owned())
    })
}

async fn killed_again_and_again(store: Store) {
    let wanted: Option<usize> = asked("PROVE_COUNT");
    let kills = wanted.unwrap_or(KILLS);
    let mut random = Random::new(asked("PROVE_SEED").unwrap_or(1));
    let begun = Instant::now();
    let mut ground = Ground::lay(store).await;
    let callers = all_ask(&ground.scene, &ground.accounts, &mut random);
    for number in 1..=kills {
        Aim::of(number).waits(&ground.ollama, &ground.scene, &mut random).await;
        if number < kills {
            ground.kill().await;
        }
    }
    ground.scene.end();
    ground.die();
    let told = callers.join_all().await;

    let last = ground.afterlife(wanted.is_some()).await;
    let kept = Kept::read(&ground.database).await;
    let ended = ground.kills.clone();
    let verdict = check(&told, &kept, ground.calls().await, &ended);
    let faults: Vec<_> = verdict
        .faults
        .into_iter()
        .chain(read::check(last.addr, &ground.accounts, &told, &kept).await)
        .collect();
    println!(
        "{store:?}: {kills} kills in {:.1?}, slowest start {:.1?}; {} turns acknowledged, {} of them answered whole, {} refused; \
         at most {} bytes of a cut answer not stored; cut: {:?}",
        begun.elapsed(),
        ground.slowest_start,
        verdict.acknowledged,
        verdict.completed,
        verdict.refused,
        verdict.behind_bytes,
        verdict.fates,
    );
    assert!(
        faults.is_empty(),
        "{} faults, of which the first are {:#?}",
        faults.len(),
        &faults[..faults.len().min(5)]
    );
    assert_eq!(verdict.failed, 0, "the service was killed, not a part of it");
    assert!(verdict.acknowledged > 3 * kills && verdict.completed > kills, "there was load");
    let unseen: Vec<_> = FATES.into_iter().filter(|fate| !verdict.fates.contains_key(fate)).collect();
    assert!(kills < MANY || unseen.is_empty(), "no turn was cut there: {unseen:?}");
    ground.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e02_nothing_acknowledged_is_lost_when_the_service_is_killed_on_sqlite() {
    killed_again_and_again(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e02_nothing_acknowledged_is_lost_when_the_service_is_killed_on_postgres() {
    killed_again_and_again(Store::Postgres).await;
}
