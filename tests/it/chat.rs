//! `POST /v1/chat` and what is left of a chat in the store.

use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{MODEL, Session, Store, TestApp, both_stores},
    turn::{answer, prompt, service, told, unstored},
};

const TOKENS: u64 = 12;

async fn start(store: Store) -> (TestApp, Session) {
    let app = service(store, [Model::new(MODEL).tokens(TOKENS)]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    (app, ada)
}

both_stores! {
    async fn a_chat_answers_as_a_whole_what_its_stream_says_in_pieces(store) {
        let (app, ada) = start(store).await;
        let question = "why is the sky blue";
        let whole = app.chat(&ada, &prompt(MODEL, question)).send().await;
        let reply = whole.expect_status(200).json();
        assert_eq!(reply["message"], json!({ "role": "assistant", "content": answer(question, TOKENS) }));
        assert_eq!(
            reply["usage"],
            json!({ "prompt_tokens": 5, "completion_tokens": TOKENS, "total_tokens": TOKENS + 5, "source": "reported" })
        );
        assert_eq!(
            (&reply["object"], &reply["done"], &reply["finish_reason"], &reply["model"], &reply["stored"]),
            (&json!("chat"), &json!(true), &json!("stop"), &json!(MODEL), &json!(true))
        );

        let mut events = app.ask(&ada, &prompt(MODEL, question)).await;
        let done = events.last().await;
        assert_eq!(events.text(), answer(question, TOKENS));
        assert_eq!(done.data["usage"], reply["usage"]);
        app.finish().await;
    }
}

both_stores! {
    async fn a_stored_chat_is_read_back_with_both_messages(store) {
        let (app, ada) = start(store).await;
        let reply = app.chat(&ada, &prompt(MODEL, "tell me\nof queues")).send().await.expect_status(200).json();
        let conversation = app.conversation(&ada, &reply["conversation_id"]).await;
        assert_eq!(conversation["title"], told("tell me of queues"));
        let messages = conversation["messages"].as_array().unwrap();
        let said = |message: &Value| json!([message["role"], message["content"], message["status"]]);
        assert_eq!(
            messages.iter().map(said).collect::<Vec<_>>(),
            [
                json!(["user", told("tell me\nof queues"), "complete"]),
                json!(["assistant", answer("tell me\nof queues", TOKENS), "complete"])
            ]
        );
        assert_eq!(messages[1]["id"], reply["message_id"]);
        assert_eq!([&messages[0]["turn_id"], &messages[1]["turn_id"]], [&reply["id"], &reply["id"]]);
        app.finish().await;
    }
}

both_stores! {
    async fn an_unstored_chat_leaves_nothing_but_its_usage(store) {
        let (mut app, ada) = start(store).await;
        let reply = app.chat(&ada, &unstored(MODEL, "forget this")).send().await.expect_status(200).json();
        assert_eq!(reply["message"]["content"], answer("forget this", TOKENS));
        assert_eq!((&reply["conversation_id"], &reply.get("stored")), (&Value::Null, &None));
        let listed = app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200).json();
        assert_eq!(listed["data"], json!([]));

        // Its row may wait a moment for company; a stop writes it at the latest.
        app.quiet().await;
        app.stop().await;
        let row = format!(
            "SELECT count(*) FROM turns WHERE status = 'complete' AND prompt_tokens = 2 \
             AND completion_tokens = {TOKENS} AND usage_source = 'reported' AND conversation_id IS NULL"
        );
        assert_eq!(app.database.number(&row).await, 1);
        for table in ["turns", "conversations", "messages"] {
            let rows = app.database.number(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(rows, i64::from(table == "turns"), "{table}");
        }
        app.finish().await;
    }
}

both_stores! {
    async fn a_conversation_goes_on_with_its_history_sent_to_the_model(store) {
        let (app, ada) = start(store).await;
        let first = app.chat(&ada, &prompt(MODEL, "my name is Ada")).send().await.expect_status(200).json();
        let mut second = prompt(MODEL, "what is my name");
        second["conversation_id"] = first["conversation_id"].clone();
        let second = app.chat(&ada, &second).send().await.expect_status(200).json();
        assert_eq!(second["conversation_id"], first["conversation_id"]);

        let asked = app.asked();
        let said: Vec<Value> = asked[1].json()["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| json!([message["role"], message["content"]]))
            .collect();
        assert_eq!(
            said,
            [
                json!(["user", told("my name is Ada")]),
                json!(["assistant", answer("my name is Ada", TOKENS)]),
                json!(["user", told("what is my name")])
            ]
        );
        let conversation = app.conversation(&ada, &first["conversation_id"]).await;
        assert_eq!(conversation["messages"].as_array().unwrap().len(), 4);
        app.finish().await;
    }
}

both_stores! {
    async fn a17_a_conversation_of_somebody_else_cannot_be_continued_or_read(store) {
        let (app, ada) = start(store).await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        let secret = app.chat(&ada, &prompt(MODEL, "a secret")).send().await.expect_status(200).json();
        let mut intrusion = prompt(MODEL, "what did she say");
        intrusion["conversation_id"] = secret["conversation_id"].clone();
        let mut unknown = intrusion.clone();
        unknown["conversation_id"] = json!(uuid::Uuid::now_v7());
        for path in ["/v1/chat", "/v1/chat/stream"] {
            let mut refusals = Vec::new();
            for body in [&intrusion, &unknown] {
                let refused = app.post(path, body).bearer(&eve.access).send().await.expect_error(404, "not_found");
                let mut error = refused.json()["error"].clone();
                error["request_id"] = Value::Null;
                refusals.push(error);
            }
            assert_eq!(refusals[0], refusals[1], "what is not hers looks like what is not");
        }
        let path = format!("/v1/conversations/{}", secret["conversation_id"].as_str().unwrap());
        app.get(&path).bearer(&eve.access).send().await.expect_error(404, "not_found");
        assert_eq!(app.asked().len(), 1, "nothing of it reached the model");
        app.finish().await;
    }
}
