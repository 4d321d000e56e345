//! `/v1/conversations…`: made, listed, read, changed and thrown away.

use serde_json::{Value, json};

use crate::harness::{Call, MODEL, Session, Store, TestApp, both_stores, snapshot};

/// A conversation of one turn; returns its id.
async fn say(app: &TestApp, session: &Session, text: &str) -> String {
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": text}]});
    let reply = app.chat(session, &body).send().await.expect_status(200).json();
    reply["conversation_id"].as_str().unwrap().to_owned()
}

async fn read(app: &TestApp, session: &Session, path: &str) -> Value {
    app.get(path).bearer(&session.access).send().await.expect_status(200).json()
}

fn ids(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

both_stores! {
    async fn a_conversation_is_read_back_as_it_was_held(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let question = "What is 7 × 6? 😀\u{2028}";
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": question}]});
        let reply = app.chat(&ada, &body).send().await.expect_status(200).json();
        let path = format!("/v1/conversations/{}", reply["conversation_id"].as_str().unwrap());
        let whole = app.get(&path).bearer(&ada.access).send().await;
        let answer = json!(reply["message"]["content"]).to_string();
        let expected = format!(r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{{
  "id": "‹uuid v7›",
  "object": "conversation",
  "title": "What is 7 × 6? 😀",
  "created_at": "‹utc time›",
  "updated_at": "‹utc time›",
  "messages": [
    {{
      "id": "‹uuid v7›",
      "role": "user",
      "content": "{question}",
      "status": "complete",
      "turn_id": "‹uuid v7›",
      "parent_id": "‹uuid v7›",
      "created_at": "‹utc time›"
    }},
    {{
      "id": "‹uuid v7›",
      "role": "assistant",
      "content": {answer},
      "status": "complete",
      "turn_id": "‹uuid v7›",
      "parent_id": "‹uuid v7›",
      "created_at": "‹utc time›"
    }}
  ],
  "next_cursor": null
}}
"#);
        assert_eq!(snapshot(&whole), expected);
        let whole = whole.json();
        assert_eq!(whole["messages"][1]["id"], reply["message_id"]);
        assert_eq!(whole["messages"][1]["turn_id"], reply["id"]);
        assert_eq!(whole["messages"][0]["parent_id"], whole["id"], "it is the beginning");
        assert_eq!(whole["messages"][1]["parent_id"], whole["messages"][0]["id"]);
        let listed = read(&app, &ada, &format!("{path}/messages")).await;
        assert_eq!(listed, json!({"object": "list", "data": whole["messages"], "next_cursor": null}));
        app.finish().await;
    }

    async fn a_conversation_is_made_named_and_thrown_away(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = json!({"title": " The sky, seen from below ", "system_prompt": "Be brief.\nAnd kind."});
        let made = app.post("/v1/conversations", &body).bearer(&ada.access).send().await;
        let expected = r#"201
content-type: application/json
x-request-id: ‹uuid v7›
{
  "id": "‹uuid v7›",
  "object": "conversation",
  "title": "The sky, seen from below",
  "system_prompt": "Be brief.\nAnd kind.",
  "created_at": "‹utc time›",
  "updated_at": "‹utc time›"
}
"#;
        assert_eq!(snapshot(&made), expected);
        let path = made.header("location").unwrap().to_owned();
        let made = made.json();
        assert_eq!(path, format!("/v1/conversations/{}", made["id"].as_str().unwrap()));
        let mut whole = read(&app, &ada, &path).await;
        assert_eq!((whole["messages"].take(), whole["next_cursor"].take()), (json!([]), Value::Null));
        whole.as_object_mut().unwrap().retain(|name, _| name != "messages" && name != "next_cursor");
        assert_eq!(whole, made);

        let change = async |body: Value| {
            let call = app.call("PATCH", &path).json(&body).bearer(&ada.access);
            call.send().await.expect_status(200).json()
        };
        let renamed = change(json!({"title": "Skies"})).await;
        assert_eq!((&renamed["title"], &renamed["system_prompt"]), (&json!("Skies"), &made["system_prompt"]));
        for same in [json!({"title": "Skies"}), json!({})] {
            assert_eq!(change(same).await, renamed, "nothing changes, so nothing has happened");
        }
        let bare = change(json!({"system_prompt": null})).await;
        assert_eq!((&bare["title"], bare.get("system_prompt")), (&json!("Skies"), None));
        let listed = read(&app, &ada, "/v1/conversations").await;
        assert_eq!(listed["data"], json!([bare]));

        app.call("DELETE", &path).bearer(&ada.access).send().await.expect_status(204);
        let mut answers = Vec::new();
        for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/messages"))] {
            answers.push(app.call(method, &path).bearer(&ada.access).send().await);
        }
        answers.push(app.call("PATCH", &path).json(&json!({"title": "x"})).bearer(&ada.access).send().await);
        let chat = json!({
            "model": MODEL, "conversation_id": made["id"], "messages": [{"role": "user", "content": "still there?"}],
        });
        answers.push(app.chat(&ada, &chat).send().await);
        answers.push(app.stream(&ada, &chat).send().await);
        for answer in answers {
            answer.expect_error(404, "not_found");
        }
        assert_eq!(read(&app, &ada, "/v1/conversations").await["data"], json!([]));
        assert!(app.asked().is_empty(), "no model was asked");
        app.finish().await;
    }

    async fn what_happens_last_is_listed_first(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let (first, second) = (say(&app, &ada, "first").await, say(&app, &ada, "second").await);
        let order = async || ids(&read(&app, &ada, "/v1/conversations").await["data"]).join(" ");
        assert_eq!(order().await, format!("{second} {first}"));
        let body = json!({"model": MODEL, "conversation_id": first, "messages": [{"role": "user", "content": "more"}]});
        app.chat(&ada, &body).send().await.expect_status(200);
        assert_eq!(order().await, format!("{first} {second}"));
        let rename = app.call("PATCH", &format!("/v1/conversations/{second}")).json(&json!({"title": "the second"}));
        rename.bearer(&ada.access).send().await.expect_status(200);
        assert_eq!(order().await, format!("{second} {first}"));
        app.finish().await;
    }

    async fn lists_are_paged_newest_first_without_gaps_or_repeats(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut made = Vec::new();
        for n in 0..5 {
            made.push(say(&app, &ada, &format!("conversation {n}")).await);
        }
        made.reverse();
        let mut seen = Vec::new();
        let mut path = "/v1/conversations?limit=2".to_owned();
        for length in [2, 2, 1] {
            let page = read(&app, &ada, &path).await;
            assert_eq!(ids(&page["data"]).len(), length);
            seen.extend(ids(&page["data"]).iter().map(|id| (*id).to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/conversations?limit=2&cursor={cursor}");
        }
        assert_eq!(seen, made);
        assert_eq!(ids(&read(&app, &ada, "/v1/conversations?limit=99999").await["data"]), made);
        let foreign = format!("cursor={}", made[0]);
        for query in ["limit=0", "limit=-1", "limit=x", "cursor=x", "cursor=", &foreign] {
            let call = app.get(&format!("/v1/conversations?{query}")).bearer(&ada.access);
            call.send().await.expect_error(400, "invalid_request");
        }
        app.finish().await;
    }

    async fn a17_what_is_somebody_elses_is_not_found_and_stays_untouched(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let eve = app.sign_up_and_in("eve@example.org").await;
        let hers = say(&app, &ada, "a secret").await;
        let before = read(&app, &ada, &format!("/v1/conversations/{hers}")).await;

        let nobodys = "01900000-0000-7000-8000-000000000000";
        let mut answers = Vec::new();
        for id in [hers.as_str(), nobodys, "no-id"] {
            let path = format!("/v1/conversations/{id}");
            let rename = app.call("PATCH", &path).json(&json!({"title": "mine"}));
            let delete = app.call("DELETE", &path);
            for call in [app.get(&path), app.get(&format!("{path}/messages")), rename, delete] {
                let reply = call.bearer(&eve.access).send().await.expect_error(404, "not_found");
                answers.push(snapshot(&reply));
            }
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "answers tell what exists: {answers:#?}");

        let mut answers = Vec::new();
        for id in [hers.as_str(), nobodys] {
            let body = json!({
                "model": MODEL, "conversation_id": id, "messages": [{"role": "user", "content": "and then?"}],
            });
            for call in [app.chat(&eve, &body), app.stream(&eve, &body)] {
                answers.push(snapshot(&call.send().await.expect_error(404, "not_found")));
            }
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "answers tell what exists: {answers:#?}");

        assert_eq!(ids(&read(&app, &eve, "/v1/conversations").await["data"]), [""; 0]);
        say(&app, &ada, "another one").await;
        let page = read(&app, &ada, "/v1/conversations?limit=1").await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let stolen = Call::new(app.addr(), "GET", &format!("/v1/conversations?cursor={cursor}")).bearer(&eve.access);
        assert_eq!(ids(&stolen.send().await.expect_status(200).json()["data"]), [""; 0]);
        assert_eq!(read(&app, &ada, &format!("/v1/conversations/{hers}")).await, before);
        app.finish().await;
    }
}

#[tokio::test]
async fn messages_are_paged_in_the_order_they_were_made() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let id = say(&app, &ada, "first").await;
    for text in ["second", "third"] {
        let body = json!({
            "model": MODEL, "conversation_id": id, "messages": [{"role": "user", "content": text}],
        });
        app.chat(&ada, &body).send().await.expect_status(200);
    }
    let all = read(&app, &ada, &format!("/v1/conversations/{id}/messages")).await;
    let roles: Vec<_> =
        all["data"].as_array().unwrap().iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user", "assistant"]);

    let mut seen = Vec::new();
    let first = read(&app, &ada, &format!("/v1/conversations/{id}?limit=4")).await;
    seen.extend(first["messages"].as_array().unwrap().clone());
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = read(&app, &ada, &format!("/v1/conversations/{id}/messages?limit=4&cursor={cursor}")).await;
    seen.extend(rest["data"].as_array().unwrap().clone());
    assert_eq!((json!(seen), &rest["next_cursor"]), (all["data"].clone(), &Value::Null));
    app.finish().await;
}

#[tokio::test]
async fn a_title_is_one_line_a_system_prompt_bounded_and_nothing_else_is_taken() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let id = say(&app, &ada, "hello").await;
    let path = format!("/v1/conversations/{id}");
    for (field, wrong) in [
        ("title", json!("")),
        ("title", json!("two\nlines")),
        ("title", json!("a\u{0}b")),
        ("title", json!("é".repeat(201))),
        ("system_prompt", json!("a\u{1b}[2Jb")),
        ("system_prompt", json!("é".repeat((32 << 10) / 2 + 1))),
    ] {
        let body = json!({ field: wrong });
        for call in [app.post("/v1/conversations", &body), app.call("PATCH", &path).json(&body)] {
            let refused = call.bearer(&ada.access).send().await.expect_error(422, "invalid_request");
            assert_eq!(refused.json()["error"]["param"], field);
        }
    }
    for wrong in [json!([]), json!({"name": "x"}), json!({"title": 7}), json!({"system_prompt": ["x"]})] {
        for call in [app.post("/v1/conversations", &wrong), app.call("PATCH", &path).json(&wrong)] {
            call.bearer(&ada.access).send().await.expect_error(400, "invalid_request");
        }
    }
    let most =
        json!({"title": "é".repeat(200), "system_prompt": "\n".repeat(32 << 10).replacen('\n', "x", 1)});
    let made =
        app.post("/v1/conversations", &most).bearer(&ada.access).send().await.expect_status(201).json();
    assert_eq!(made["system_prompt"], most["system_prompt"]);
    let too_large = json!({"system_prompt": "x".repeat(256 << 10)});
    let refused = app.post("/v1/conversations", &too_large).bearer(&ada.access).send().await;
    refused.expect_error(413, "invalid_request");
    app.finish().await;
}

#[tokio::test]
async fn an_untitled_conversation_is_named_by_what_is_said_first() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let made =
        app.call("POST", "/v1/conversations").bearer(&ada.access).send().await.expect_status(201).json();
    assert_eq!(made["title"], "New conversation");
    let title = async || app.conversation(&ada, &made["id"]).await["title"].clone();
    for (store, text, expected) in [
        (false, "never mind", "New conversation"),
        (true, "why is\nthe sky blue?", "why is the sky blue?"),
        (true, "and the sea?", "why is the sky blue?"),
    ] {
        let body = json!({
            "model": MODEL, "conversation_id": made["id"], "store": store, "messages": [{"role": "user", "content": text}],
        });
        app.chat(&ada, &body).send().await.expect_status(200);
        assert_eq!(title().await, expected);
    }
    app.finish().await;
}
