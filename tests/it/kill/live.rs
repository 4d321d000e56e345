//! Workers and writers killed inside the living service, under the same load and before the same judge: who had nothing to
//! do with the dead notices nothing.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    caller::{LONG, SHORT, SLOTS, SLOW, all_ask, models},
    check::check,
    kept::Kept,
    questions,
    scene::{Life, Scene},
};
use crate::{
    harness::{Options, Random, Store, TestApp, asked, both_stores},
    turn::Actors,
};

/// Kills of each kind, well below what makes a room give up.
const KILLS: usize = 4;
/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(700);

/// A path of the tree where a model's worker or a writer lives.
fn victim(store: Store, is_worker: bool, random: &mut Random) -> String {
    if is_worker {
        let model = [SHORT, LONG, SLOW][random.below(3)];
        return format!("models_sup/{model}/worker-{}", random.below(SLOTS));
    }
    let writers = if store == Store::Sqlite { 1 } else { 4 };
    format!("db_sup/writer-{}", random.below(writers))
}

both_stores! {
    #[expect(clippy::print_stdout, reason = "as in the proof that it belongs to")]
    async fn e02_workers_and_writers_killed_under_load_lose_nothing_acknowledged(store) {
        let mut random = Random::new(asked("PROVE_SEED").unwrap_or(1));
        let options = Options::on(store).models(models()).set("OLLAMA_NUM_PARALLEL", SLOTS);
        let app = TestApp::start(options).await;
        let actors = Actors::of(&app).await;
        let mut accounts = Vec::new();
        for name in ["ada", "bob", "eve"] {
            accounts.push(app.sign_up_and_in(&format!("{name}@example.org")).await.access);
        }
        let scene = Scene::empty();
        let callers = all_ask(&scene, &accounts, &mut random);
        scene.enter(Life { number: 0, addr: app.addr() });
        for kill in 0..2 * KILLS {
            sleep(random.between(Duration::ZERO, BETWEEN)).await;
            let path = victim(store, kill % 2 == 0, &mut random);
            actors.back(&path).await;
            actors.kill(&path).await;
        }
        sleep(BETWEEN).await;
        scene.end();
        let told = callers.join_all().await;
        app.quiet().await;

        let calls: Vec<_> = questions(app.ollama.control().requests()).collect();
        let kept = Kept::read(&app.database).await;
        let verdict = check(&told, &kept, &calls, &[] as &[Instant]);
        println!(
            "{store:?}: {KILLS} workers and {KILLS} writers killed; {} turns acknowledged, {} answered whole, {} failed, {} \
             refused",
            verdict.acknowledged, verdict.completed, verdict.failed, verdict.refused
        );
        assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
        assert!(verdict.fates.is_empty(), "connections broke: {:?}", verdict.fates);
        assert!(verdict.failed <= KILLS, "{} turns failed of {KILLS} workers", verdict.failed);
        assert!(verdict.completed > 2 * KILLS, "there was load");
        app.finish().await;
    }
}
