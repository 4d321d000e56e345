//! Texts that become vectors, on the same path as a chat.

use domain::{
    embedding::EmbedRequest,
    id::TurnId,
    reply::{Usage, UsageSource},
};

use super::*;
use crate::{
    model::{
        Embeddings, StartedEmbedding,
        embedding::{EMBEDDED_AT_ONCE, VECTORS_BYTES_MAX},
        provider::scripted::Fate,
    },
    reply::Ending,
};

/// Texts of the lengths 1, 2, 3…
fn texts(count: usize) -> EmbedRequest {
    EmbedRequest {
        model: ModelName::parse("m").unwrap(),
        inputs: (1..=count).map(|length| "x".repeat(length)).collect(),
        dimensions: None,
        truncate: true,
    }
}

fn lengths(up_to: usize) -> Vec<Vec<f32>> {
    (1..=up_to).map(|length| vec![length as f32]).collect()
}

/// What these texts cost by rule of thumb, the first ones left out.
fn estimated(up_to: usize, after: usize) -> u32 {
    let mut request = texts(up_to);
    request.inputs.drain(..after);
    request.estimated_tokens()
}

const fn reported(prompt_tokens: u32) -> Usage {
    Usage { prompt_tokens, completion_tokens: 0, source: UsageSource::Reported }
}

const fn guessed(prompt_tokens: u32) -> Usage {
    Usage { source: UsageSource::Estimated, ..reported(prompt_tokens) }
}

/// The first call goes well, and this becomes of the second.
fn second(fate: Fate) -> [Fate; 2] {
    [Fate::Make(lengths(EMBEDDED_AT_ONCE)), fate]
}

async fn until_asked(script: &Script, calls: usize) {
    let asked = async {
        while script.embedded().len() < calls {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
}

fn away() -> UpstreamError {
    UpstreamError::Connect("refused".to_owned())
}

async fn open(script: &Script) -> House {
    House::open(script.clone(), ModelConfig::default()).await
}

impl House {
    async fn embed(&self, principal: &Principal, count: usize) -> StartedEmbedding {
        let reserve = TokenReserve::none();
        self.models.start_embedding(principal, texts(count), TurnOptions::default(), reserve).await.unwrap()
    }

    /// What the ledger says of a turn that is over: how it ended and what it cost.
    async fn row(&self, principal: &Principal, turn: TurnId) -> (TurnStatus, Usage) {
        while self.db.unsettled() > 0 {
            tokio::task::yield_now().await;
        }
        let (row, _) = self.db.turn(principal.user, turn).await.unwrap().unwrap();
        assert_eq!(row.stored, None);
        (row.status, row.usage.unwrap())
    }
}

async fn vectors(started: StartedEmbedding) -> (Embeddings, Ending) {
    tokio::time::timeout(PATIENCE, started.finished()).await.expect("the turn ends")
}

#[tokio::test]
async fn texts_become_vectors_in_their_order_a_few_in_each_call() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    let count = 2 * EMBEDDED_AT_ONCE + 3;
    let started = house.embed(&ada, count).await;
    let turn = started.turn;
    let (made, ending) = vectors(started).await;
    assert_eq!(ending.outcome, Outcome::Complete(FinishReason::Stop));
    assert_eq!(made.vectors, lengths(count));
    let calls: Vec<_> = script.embedded().iter().map(Vec::len).collect();
    assert_eq!(calls, [EMBEDDED_AT_ONCE, EMBEDDED_AT_ONCE, 3]);
    assert_eq!((made.usage, ending.usage), (Some(reported(35)), reported(35)));
    assert_eq!(house.row(&ada, turn).await, (TurnStatus::Complete, reported(35)));
    assert_eq!(script.wrongs(), Vec::<String>::new(), "its model is loaded first and stays");
    assert_eq!(script.deeds(), ["load m"]);
    house.close().await;
}

#[tokio::test]
async fn b16_a_caller_that_leaves_between_two_calls_frees_the_slot_and_pays_for_what_was_asked() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    script.then_embed(second(Fate::Stall));
    // Whatever it asks for: nobody can come back for vectors.
    let options = TurnOptions { continue_on_disconnect: true, ..STORED };
    let count = 3 * EMBEDDED_AT_ONCE;
    let started =
        house.models.start_embedding(&ada, texts(count), options, TokenReserve::none()).await.unwrap();
    let turn = started.turn;
    until_asked(&script, 2).await;
    drop(started);
    until_open(&script, 0).await;
    let (made, ending) = vectors(house.embed(&ada, 1).await).await;
    assert_eq!((made.vectors, ending.usage), (lengths(1), reported(1)));
    assert_eq!(script.embedded().len(), 3, "the third call was never made");
    let spent = 16 + estimated(2 * EMBEDDED_AT_ONCE, EMBEDDED_AT_ONCE);
    assert_eq!(house.row(&ada, turn).await, (TurnStatus::Cancelled, guessed(spent)));
    house.close().await;
}

#[tokio::test]
async fn an_embedding_waits_in_the_same_line_as_chats_and_can_be_given_up_there() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    let (steps, go) = held_up();
    script.then(Ok(steps));
    let mut running = house.turn(&ada).await;
    until_open(&script, 1).await;
    let (given_up, waits) = (house.embed(&ada, 1).await, house.embed(&ada, 2).await);
    assert_eq!((given_up.position, waits.position), (1, 2));
    let turn = given_up.turn;
    drop(given_up);
    assert_eq!((house.models.models()[0].waiting, script.embedded().len()), (1, 0));
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "still here");
    assert_eq!(vectors(waits).await.0.vectors, lengths(2));
    assert_eq!(house.row(&ada, turn).await, (TurnStatus::Cancelled, guessed(0)));
    house.close().await;
}

#[tokio::test]
async fn a_server_that_fails_midway_fails_the_turn_and_nothing_half_made_is_handed_over() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    for (fate, code) in [
        (UpstreamError::Failed("status 500".to_owned()), FailureCode::UpstreamError),
        (UpstreamError::Rejected("too long".to_owned()), FailureCode::InvalidRequest),
        (UpstreamError::NoSuchModel, FailureCode::ModelNotFound),
    ] {
        script.then_embed(second(Fate::Fail(fate)));
        let started = house.embed(&ada, EMBEDDED_AT_ONCE + 1).await;
        let turn = started.turn;
        let (made, ending) = vectors(started).await;
        assert!(failed(code)(&ending.outcome), "{:?}", ending.outcome);
        assert_eq!(made.vectors, Vec::<Vec<f32>>::new());
        let spent = 16 + estimated(EMBEDDED_AT_ONCE + 1, EMBEDDED_AT_ONCE);
        assert_eq!(house.row(&ada, turn).await, (TurnStatus::Failed, guessed(spent)));
    }
    house.close().await;
}

#[tokio::test]
async fn a_server_that_could_not_be_reached_once_goes_on_where_it_stood() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    script.then_embed(second(Fate::Fail(away())));
    let count = EMBEDDED_AT_ONCE + 5;
    let (made, ending) = vectors(house.embed(&ada, count).await).await;
    assert_eq!((made.vectors, ending.usage), (lengths(count), reported(21)));
    let calls: Vec<_> = script.embedded().iter().map(Vec::len).collect();
    assert_eq!(calls, [EMBEDDED_AT_ONCE, 5, 5]);
    house.close().await;
}

#[tokio::test]
async fn another_server_begins_anew_so_that_all_vectors_are_of_one_server() {
    let (near, far) = (Script::new(&["m"], answer("fine")), Script::new(&["m"], answer("fine")));
    let house = super::fleet::open(&near, &far, ModelConfig::default()).await;
    let theirs = vec![vec![-1.0]; EMBEDDED_AT_ONCE];
    near.then_embed([Fate::Make(theirs), Fate::Fail(UpstreamError::Failed("status 500".to_owned()))]);
    let count = EMBEDDED_AT_ONCE + 5;
    let mut before = 0;
    // Whom a user prefers is theirs; one of so many prefers the one that fails.
    while near.embedded().is_empty() {
        before = far.embedded().len();
        assert!(before < 128, "nobody prefers it");
        let (made, ending) = vectors(house.embed(&house.somebody().await, count).await).await;
        assert_eq!((made.vectors, ending.usage), (lengths(count), reported(21)));
    }
    assert_eq!((near.embedded().len(), far.embedded().len()), (2, before + 2));
    house.close().await;
}

#[tokio::test]
async fn vectors_that_are_not_what_was_asked_for_count_against_the_server() {
    for wrong in [vec![], vec![vec![1.0]; 3], vec![vec![1.0], vec![]], vec![vec![f32::NAN]; 2]] {
        let script = Script::new(&["m"], answer("fine"));
        let config = ModelConfig { breaker_failures: 1, ..ModelConfig::default() };
        let house = House::open(script.clone(), config).await;
        let ada = house.somebody().await;
        script.probe_as(Err(away()));
        script.then_embed([Fate::Make(wrong.clone())]);
        let (made, ending) = vectors(house.embed(&ada, 2).await).await;
        assert!(failed(FailureCode::UpstreamError)(&ending.outcome), "{wrong:?}: {:?}", ending.outcome);
        assert_eq!(made.vectors, Vec::<Vec<f32>>::new());
        assert_eq!(house.models.models()[0].state, ModelState::Unreachable, "{wrong:?}");
        house.close().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_count_is_believed_by_rule_of_thumb() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    script.then_embed([Fate::Uncounted]);
    let started = house.embed(&ada, EMBEDDED_AT_ONCE + 1).await;
    let turn = started.turn;
    let spent = guessed(estimated(EMBEDDED_AT_ONCE, 0) + 1);
    assert_eq!(vectors(started).await.1.usage, spent);
    assert_eq!(house.row(&ada, turn).await, (TurnStatus::Complete, spent));
    house.close().await;
}

#[tokio::test]
async fn vectors_that_outgrow_their_bound_end_the_turn() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    let numbers = VECTORS_BYTES_MAX / EMBEDDED_AT_ONCE / size_of::<f32>();
    script.then_embed([Fate::Make(vec![vec![0.5; numbers]; EMBEDDED_AT_ONCE])]);
    let started = house.embed(&ada, EMBEDDED_AT_ONCE).await;
    let turn = started.turn;
    let (made, ending) = vectors(started).await;
    assert!(failed(FailureCode::ReplyTooLarge)(&ending.outcome), "{:?}", ending.outcome);
    assert_eq!(made.vectors, Vec::<Vec<f32>>::new());
    assert_eq!(house.row(&ada, turn).await, (TurnStatus::Failed, reported(16)));
    house.close().await;
}

#[tokio::test]
async fn vectors_count_in_the_budget_of_all_answers_until_they_are_handed_over() {
    let each = size_of::<Vec<f32>>() + size_of::<f32>();
    let script = Script::new(&["m"], answer("fine"));
    let config = ModelConfig { reply_budget_bytes: EMBEDDED_AT_ONCE * each + 100, ..ModelConfig::default() };
    let house = House::open(script.clone(), config).await;
    let ada = house.somebody().await;
    script.then_embed(second(Fate::Stall));
    let started = house.embed(&ada, EMBEDDED_AT_ONCE + 5).await;
    until_asked(&script, 2).await;
    assert_eq!(house.models.reply_bytes().0, EMBEDDED_AT_ONCE * each);
    let reserve = TokenReserve::none();
    let refused = house.models.start_embedding(&ada, texts(1), TurnOptions::default(), reserve).await.err();
    assert!(matches!(refused, Some(ModelError::NoRoom(_))), "{refused:?}");
    drop(started);
    until_open(&script, 0).await;
    let (made, ending) = vectors(house.embed(&ada, EMBEDDED_AT_ONCE + 5).await).await;
    assert!(failed(FailureCode::ReplyTooLarge)(&ending.outcome), "{:?}", ending.outcome);
    assert!(made.vectors.is_empty());
    assert_eq!(vectors(house.embed(&ada, 3).await).await.0.vectors, lengths(3));
    while house.models.reply_bytes().0 > 0 {
        tokio::task::yield_now().await;
    }
    house.close().await;
}

#[tokio::test]
async fn texts_wait_within_the_budget_of_all_prompts() {
    let script = Script::new(&["m"], answer("fine"));
    let config = ModelConfig { prompt_budget_bytes: 64 << 10, ..ModelConfig::default() };
    let house = House::open(script.clone(), config).await;
    let ada = house.somebody().await;
    let start = |bytes: usize| {
        let request = EmbedRequest { inputs: vec!["x".repeat(bytes)], ..texts(0) };
        house.models.start_embedding(&ada, request, TurnOptions::default(), TokenReserve::none())
    };
    script.then_embed([Fate::Stall]);
    let first = start(40 << 10).await.unwrap();
    assert!(matches!(start(40 << 10).await.err(), Some(ModelError::NoRoom(_))));
    until_asked(&script, 1).await;
    drop(first);
    until_open(&script, 0).await;
    let again = start(40 << 10).await.unwrap();
    assert_eq!(vectors(again).await.0.vectors, [[(40 << 10) as f32]]);
    house.close().await;
}

#[tokio::test]
async fn no_text_at_all_is_no_vector_and_no_call() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    let (made, ending) = vectors(house.embed(&ada, 0).await).await;
    assert_eq!(ending.outcome, Outcome::Complete(FinishReason::Stop));
    assert_eq!((made.vectors.len(), ending.usage.total_tokens(), script.embedded().len()), (0, 0, 0));
    house.close().await;
}

#[tokio::test]
async fn b15_a_shutdown_interrupts_an_embedding_like_any_turn() {
    let script = Script::new(&["m"], answer("fine"));
    let house = open(&script).await;
    let ada = house.somebody().await;
    script.then_embed(second(Fate::Stall));
    let started = house.embed(&ada, EMBEDDED_AT_ONCE + 1).await;
    until_asked(&script, 2).await;
    let (_, (made, ending)) = tokio::join!(house.models.halt(Duration::ZERO), vectors(started));
    assert!(failed(FailureCode::ServerShuttingDown)(&ending.outcome), "{:?}", ending.outcome);
    assert!(made.vectors.is_empty());
    house.close().await;
}
