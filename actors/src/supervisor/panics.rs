//! Panics as errors: what was said and where, on the exit line of the actor instead of on standard error.
//!
//! ```text
//! panic! ─▶ hook: inside `caught`? remember the place, print nothing ─▶ unwinding ─▶ `caught` returns it
//!                 outside?         one log line
//! ```
//!
//! Unwinding stays on its thread from the hook to the catch, so a thread-local carries the place exactly.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    pin::pin,
    sync::Once,
    task::Poll,
};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a future and turns its panic into a text: message, and place if [`silence_panic_hook`] is installed.
///
/// # Errors
///
/// The future panicked and is gone. What it shared with others may be half done.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let outer = IS_CAUGHT.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        IS_CAUGHT.set(outer);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(describe(payload.as_ref()))),
        }
    })
    .await
}

/// Replaces the process's panic hook: a panic inside [`caught`] is silent, any other becomes one log line.
pub fn silence_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            if IS_CAUGHT.get() {
                // Only fails while the thread is torn down, when nobody is left to read it.
                let _ = PLACE.try_with(|kept| kept.replace(place));
            } else {
                let cause = text(info.payload());
                tracing::error!(cause, place, "panic outside an actor");
            }
        }));
    });
}

fn describe(payload: &(dyn Any + Send)) -> String {
    let message = text(payload);
    match PLACE.take() {
        Some(place) => format!("panicked: {message} at {place}"),
        None => format!("panicked: {message}"),
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a payload that is not text"
    }
}
