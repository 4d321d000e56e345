//! Waiting for what tells nobody when it changes.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

use super::PATIENCE;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks again and again until `met`.
pub(crate) async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    until_found(what, async || if met().await { Ok(()) } else { Err("still not so") }).await;
}

/// Looks again and again until it is there, and returns it; before that, `look` says what is there instead.
pub(crate) async fn until_found<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < give_up, "waited in vain for {what}: {instead:#?}"),
        }
        sleep(LOOK_EVERY).await;
    }
}
