//! Conversations as models are shown them: what a turn follows, and what of it goes before the prompt.

use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{MODEL, Options, PATIENCE, Reply, Session, Store, TestApp, both_stores},
    turn::Streamed,
};

/// Says something in a conversation and returns the reply.
async fn say(app: &TestApp, session: &Session, body: Value) -> Value {
    app.chat(session, &body).send().await.expect_status(200).json()
}

/// One message of a user, with what else the request says.
fn user(text: &str, more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// What the model was shown last: the role's first letter and the text of each message, an answer by its letter alone.
fn shown(app: &TestApp) -> Vec<String> {
    let asked = app.asked();
    let messages = asked.last().unwrap().json()["messages"].as_array().unwrap().clone();
    let line = |message: &Value| match message["role"].as_str().unwrap() {
        "assistant" => "a".to_owned(),
        role => format!("{}:{}", &role[..1], message["content"].as_str().unwrap()),
    };
    messages.iter().map(line).collect()
}

async fn messages(app: &TestApp, session: &Session, conversation: &Value) -> Vec<Value> {
    app.conversation(session, conversation).await["messages"].as_array().unwrap().clone()
}

/// The message of this text.
fn of_text<'m>(messages: &'m [Value], text: &str) -> &'m Value {
    messages.iter().find(|message| message["content"] == text).unwrap()
}

async fn refused(app: &TestApp, session: &Session, body: Value) -> Reply {
    let (whole, stream) = (app.chat(session, &body).send().await, app.stream(session, &body).send().await);
    assert_eq!(
        (whole.status, &whole.json()["error"]["param"]),
        (stream.status, &stream.json()["error"]["param"])
    );
    whole
}

both_stores! {
    async fn another_answer_and_another_way_on_leave_the_first_as_they_are(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let first = say(&app, &ada, user("one", json!({}))).await;
        let id = first["conversation_id"].clone();
        let here = |more: Value| {
            let mut more = more;
            more["conversation_id"] = id.clone();
            more
        };
        say(&app, &ada, user("two", here(json!({})))).await;
        assert_eq!(shown(&app), ["u:one", "a", "u:two"]);
        let one = of_text(&messages(&app, &ada, &id).await, "one").clone();

        // Another answer to the first message.
        let anew = here(json!({"model": MODEL, "messages": [], "parent_id": one["id"]}));
        let another = say(&app, &ada, anew).await;
        assert_eq!(shown(&app), ["u:one"]);
        // Without a parent the newest message is followed: that answer.
        say(&app, &ada, user("three", here(json!({})))).await;
        assert_eq!(shown(&app), ["u:one", "a", "u:three"]);
        // The first way goes on too, from wherever one likes.
        let all = messages(&app, &ada, &id).await;
        let answer_to_two = all.iter().find(|message| message["parent_id"] == of_text(&all, "two")["id"]).unwrap();
        say(&app, &ada, user("four", here(json!({"parent_id": answer_to_two["id"]})))).await;
        assert_eq!(shown(&app), ["u:one", "a", "u:two", "a", "u:four"]);
        say(&app, &ada, user("again", here(json!({"parent_id": id})))).await;
        assert_eq!(shown(&app), ["u:again"]);

        let all = messages(&app, &ada, &id).await;
        assert_eq!(all.len(), 11, "six turns, one of which said nothing new");
        let parents: Vec<_> = [
            ("one", &id),
            ("two", &first["message_id"]),
            ("three", &another["message_id"]),
            ("four", &answer_to_two["id"]),
            ("again", &id),
        ]
        .map(|(text, parent)| (&of_text(&all, text)["parent_id"], parent)).into();
        assert!(parents.iter().all(|(said, expected)| said == expected), "{parents:#?}");
        let answers: Vec<_> = all.iter().filter(|message| message["parent_id"] == one["id"]).collect();
        assert_eq!(answers.len(), 2, "both are kept");
        assert!(answers.iter().all(|answer| answer["role"] == "assistant" && answer["status"] == "complete"));
        app.finish().await;
    }

    async fn what_cannot_be_followed_is_refused_and_nothing_is_stored(store) {
        let app = TestApp::on(store).await;
        let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
        let first = say(&app, &ada, user("one", json!({}))).await;
        let other = say(&app, &ada, user("elsewhere", json!({}))).await;
        let hers = say(&app, &eve, user("hers", json!({}))).await;
        let (id, asked) = (&first["conversation_id"], app.asked().len());
        let nobodys = json!("01900000-0000-7000-8000-000000000000");
        for parent in [&nobodys, &other["message_id"], &hers["message_id"], &other["conversation_id"], &first["id"]] {
            let body = user("two", json!({"conversation_id": id, "parent_id": parent}));
            let reply = refused(&app, &ada, body).await.expect_error(404, "not_found");
            assert_eq!(reply.json()["error"]["param"], "parent_id");
        }
        let foreign = user("two", json!({"conversation_id": hers["conversation_id"], "parent_id": hers["message_id"]}));
        let reply = refused(&app, &ada, foreign).await.expect_error(404, "not_found");
        assert_eq!(reply.json()["error"]["param"], "conversation_id");
        let nothing = |more: Value| {
            let mut body = json!({"model": MODEL, "messages": []});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        for (body, param) in [
            (user("two", json!({"parent_id": first["message_id"]})), "parent_id"),
            (nothing(json!({"conversation_id": id, "parent_id": first["message_id"]})), "messages"),
            (nothing(json!({"conversation_id": id, "parent_id": id})), "messages"),
            (nothing(json!({"conversation_id": id})), "messages"),
            (nothing(json!({})), "messages"),
        ] {
            let reply = refused(&app, &ada, body).await.expect_error(400, "invalid_request");
            assert_eq!(reply.json()["error"]["param"], param);
        }
        assert_eq!(messages(&app, &ada, id).await.len(), 2);
        assert_eq!(app.asked().len(), asked, "no model was asked");
        app.finish().await;
    }

    async fn a_conversation_thrown_away_during_a_turn_is_gone_and_the_turn_ends_well(store) {
        let model = Model::new(MODEL).parallel(2).tokens(400).tokens_per_s(200.0);
        let app = TestApp::start(Options::on(store).models([model])).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut running = Streamed::new(app.stream(&ada, &user("one", json!({}))).open().await.expect_status(200));
        running.until("chunk").await;
        let id = running.start()["conversation_id"].clone();
        // What is being written cannot be followed.
        let answer = &running.start()["message_id"];
        let follow = user("two", json!({"conversation_id": id, "parent_id": answer}));
        let reply = refused(&app, &ada, follow).await.expect_error(409, "conflict");
        assert_eq!(reply.json()["error"]["param"], "parent_id");

        let path = format!("/v1/conversations/{}", id.as_str().unwrap());
        app.call("DELETE", &path).bearer(&ada.access).send().await.expect_status(204);
        app.get(&path).bearer(&ada.access).send().await.expect_error(404, "not_found");
        let last = running.last().await;
        assert_eq!((last.event.as_str(), &last.data["finish_reason"]), ("done", &json!("stop")), "{last:?}");
        app.get(&path).bearer(&ada.access).send().await.expect_error(404, "not_found");
        let list = app.get("/v1/conversations").bearer(&ada.access).send().await.expect_status(200).json();
        assert_eq!(list["data"], json!([]));
        app.finish().await;
    }
}

#[tokio::test]
async fn a_conversations_system_prompt_stands_before_all_unless_a_request_brings_its_own() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let body = json!({"system_prompt": "be kind"});
    let made =
        app.post("/v1/conversations", &body).bearer(&ada.access).send().await.expect_status(201).json();
    let here = json!({"conversation_id": made["id"]});
    say(&app, &ada, user("one", here.clone())).await;
    assert_eq!(shown(&app), ["s:be kind", "u:one"]);
    let mut own = user("two", here.clone());
    own["store"] = json!(false);
    own["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "be brief"}));
    say(&app, &ada, own).await;
    assert_eq!(shown(&app), ["u:one", "a", "s:be brief", "u:two"]);
    say(&app, &ada, user("three", here)).await;
    assert_eq!(shown(&app), ["s:be kind", "u:one", "a", "u:three"], "what is not stored is not shown again");
    let stored = messages(&app, &ada, &made["id"]).await;
    assert!(
        stored.iter().all(|message| message["role"] != "system"),
        "it is the conversation's, no message of it"
    );
    app.finish().await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_models_context_is_left_out_from_the_oldest_on() {
    let mut small = Model::new(MODEL).parallel(2).tokens(3);
    // Three quarters of it are for the prompt: 768 tokens, of 4 bytes each by the rule of thumb.
    small.details.context_length = Some(1_024);
    let app = TestApp::start(Options::on(Store::Sqlite).models([small])).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let body = json!({"system_prompt": "be kind"});
    let made =
        app.post("/v1/conversations", &body).bearer(&ada.access).send().await.expect_status(201).json();
    let here = json!({"conversation_id": made["id"]});
    let long = |name: &str| format!("{name} {}", "x".repeat(1_200));
    for name in ["one", "two", "three"] {
        say(&app, &ada, user(&long(name), here.clone())).await;
    }
    let names = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(shown(&app)),
        ["s:be", "a", "u:two", "a", "u:three"],
        "an answer to what is left out is small"
    );
    // A request that leaves more to the answer leaves less to what was said before.
    let mut longer = user(&long("four"), here);
    longer["options"] = json!({"num_predict": 500});
    say(&app, &ada, longer).await;
    assert_eq!(names(shown(&app)), ["s:be", "a", "u:four"]);
    assert_eq!(messages(&app, &ada, &made["id"]).await.len(), 8, "all of it is kept");
    app.finish().await;
}

#[tokio::test]
async fn turns_at_once_in_one_conversation_are_branches_of_what_each_was_shown() {
    let app = TestApp::on(Store::Sqlite).await;
    let pace = |tokens, tokens_per_s| {
        app.ollama.control().change_model(MODEL, |model| {
            (model.tokens, model.tokens_per_s) = (tokens, tokens_per_s);
        });
    };
    let ada = app.sign_up_and_in("ada@example.org").await;
    let first = say(&app, &ada, user("one", json!({}))).await;
    let here = json!({"conversation_id": first["conversation_id"]});
    pace(100_000, 100.0);
    let mut running =
        Streamed::new(app.stream(&ada, &user("two", here.clone())).open().await.expect_status(200));
    running.until("chunk").await;
    pace(3, 0.0);
    say(&app, &ada, user("three", here)).await;
    assert_eq!(shown(&app), ["u:one", "a", "u:two", "u:three"]);
    let all = messages(&app, &ada, &first["conversation_id"]).await;
    assert_eq!(of_text(&all, "three")["parent_id"], of_text(&all, "two")["id"]);
    drop(running);
    app.ollama.control().wait_until(|counters| counters.cancellations == 1, PATIENCE).await.unwrap();
    app.finish().await;
}
