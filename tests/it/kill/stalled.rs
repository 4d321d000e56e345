//! A model that says something and then nothing: what it said is stored while it is silent (E2).

use std::time::Duration;

use support::fake_ollama::{Model, Scenario};

use crate::{
    harness::{MODEL, both_stores, until},
    turn::{answer, prompt, service_with},
};

/// Tokens before the silence: far less than is stored for its size.
const TOKENS: u64 = 3;

both_stores! {
    async fn e02_what_a_silent_model_said_is_stored_though_it_says_no_more(store) {
        let stalling = Model::new(MODEL).scenario(Scenario::Stall { after: TOKENS });
        let often = Duration::from_millis(100);
        let app = service_with(store, [stalling], move |config| config.system.model.checkpoint_every = often).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut events = app.ask(&ada, &prompt(MODEL, "well")).await;
        let said = answer("well", TOKENS);
        while events.text() != said {
            events.until("chunk").await;
        }
        let conversation = events.start()["conversation_id"].clone();
        until("the text to be stored", async || {
            let stored = app.conversation(&ada, &conversation).await["messages"][1].clone();
            assert_eq!(stored["status"], "streaming");
            stored["content"] == said
        })
        .await;
        drop(events);
        app.finish().await;
    }
}
