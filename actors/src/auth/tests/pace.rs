//! What one check costs when everything is known: run it alone, optimised, and compare.
//!
//! ```sh
//! cargo test --release -p actors --lib auth::tests::pace -- --ignored --nocapture
//! ```

use std::{hint::black_box, io::Write, time::Duration};

use domain::{
    limits::Limits,
    principal::{Role, Scopes},
    token_text::{self, TokenKind},
};
use tokio::time::Instant;

use super::bench::Bench;
use crate::{
    auth::truth::{State, Truth},
    clock::fresh_id,
    digest::sha256,
};

const CHECKS: u32 = 200_000;
const ROUNDS: usize = 15;

#[tokio::test]
#[ignore = "measures"]
async fn what_a_check_of_a_known_token_or_key_costs() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let key = token_text::compose(TokenKind::ApiKey, &[7; 32]);
    let malformed = format!("{}-", &key.reveal()[..token_text::CHARS - 1]);
    let state = State::Key {
        user: fresh_id(),
        role: Role::User,
        id: fresh_id(),
        scopes: Scopes::default(),
        limits: Limits::default(),
        models: None,
        key_limits: Limits::default(),
        key_models: None,
        expires_at: None,
    };
    let shown = [
        ("token", tokens.access_token.reveal().as_str()),
        ("key", key.reveal()),
        ("malformed key", malformed.as_str()),
    ];
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        for ((_, text), best) in shown.iter().zip(&mut best) {
            // Each round is done before what is known is old.
            bench
                .auth
                .0
                .sessions
                .learn(sha256(key.reveal()), Truth { state: state.clone(), as_of: Instant::now() });
            let _ = bench.auth.authenticate(text).await;
            let start = Instant::now();
            for _ in 0..CHECKS {
                let _ = black_box(bench.auth.authenticate(black_box(text)).await);
            }
            *best = start.elapsed().min(*best);
        }
    }
    for ((what, _), best) in shown.iter().zip(best) {
        writeln!(std::io::stderr(), "{what}: {} ns", best.as_nanos() / u128::from(CHECKS)).unwrap();
    }
    bench.stop().await;
}
