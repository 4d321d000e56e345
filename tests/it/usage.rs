//! `GET /v1/usage`, `GET /v1/admin/usage`, `GET /v1/turns`

use chrono::NaiveDate;
use serde_json::{Value, json};
use support::fake_ollama::Model;

use crate::{
    harness::{Call, MODEL, Reply, Session, Store, TestApp, both_stores, snapshot, until},
    turn::{prompt, service, unstored},
};

const OTHER: &str = "other:7b";

async fn read(app: &TestApp, session: &Session, path: &str) -> Value {
    app.get(path).bearer(&session.access).send().await.expect_status(200).json()
}

/// Every turn, stored or not, once the ledger has all of them settled.
async fn settled(app: &TestApp, session: &Session, count: usize) -> Vec<Value> {
    let mut turns = Vec::new();
    until("the ledger to be settled", async || {
        turns = read(app, session, "/v1/turns?limit=100").await["data"].as_array().unwrap().clone();
        turns.len() == count && turns.iter().all(|turn| !turn["usage"].is_null())
    })
    .await;
    turns
}

fn sum(turns: &[Value], count: impl Fn(&Value) -> &Value) -> u64 {
    turns.iter().map(|turn| count(turn).as_u64().unwrap()).sum()
}

const ROW: &str = r#"200
content-type: application/json
x-request-id: ‹uuid v7›
{
  "object": "list",
  "data": [
    {
      "id": "‹uuid v7›",
      "object": "turn",
      "status": "complete",
      "model": "qwen3:8b",
      "conversation_id": "‹uuid v7›",
      "message_id": "‹uuid v7›",
      "created_at": "‹utc time›",
      "ended_at": "‹utc time›",
      "finish_reason": "stop",
      "error": null,
      "usage": ‹usage›,
      "timings": ‹timings›,
      "key": {
        "id": "‹uuid v7›",
        "name": "a key"
      }
    }
  ],
  "next_cursor": null
}
"#;

both_stores! {
    async fn usage_is_what_the_model_server_reported(store) {
        let app = service(store, [Model::new(MODEL).parallel(4), Model::new(OTHER).parallel(4)]).await;
        let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
        let root = app.administrator("root@example.org").await;
        let (key, secret) = app.create_key(&ada, "chat usage").await;

        // What each reply says is what the server said last.
        let mut replies = Vec::new();
        for body in [prompt(MODEL, "one"), prompt(OTHER, "two"), unstored(MODEL, "three")] {
            replies.push(app.chat(&ada, &body).send().await.expect_status(200).json());
        }
        let by_key = app.post("/v1/chat", &unstored(MODEL, "four")).bearer(&secret).send().await;
        replies.push(by_key.expect_status(200).json());
        app.chat(&eve, &prompt(MODEL, "five")).send().await.expect_status(200);
        let turns = settled(&app, &ada, 4).await;
        settled(&app, &eve, 1).await;

        let total = read(&app, &ada, "/v1/usage").await["total"].clone();
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            let said = sum(&replies, |reply| &reply["usage"][name]);
            assert!(said > 0);
            assert_eq!(total[name], said, "{name}: {total:#}");
            assert_eq!(sum(&turns, |turn| &turn["usage"][name]), said, "{name}");
        }
        assert_eq!((&total["requests"], &total["complete"], &total["reported"]), (&json!(4), &json!(4), &json!(4)));
        assert!(total["avg_total_ms"].is_u64() && total["avg_first_token_ms"].is_u64(), "{total:#}");

        let today = app.system().clock().now().date_naive();
        let by_day = read(&app, &ada, "/v1/usage").await;
        let began: NaiveDate = by_day["data"][0]["day"].as_str().unwrap().parse().unwrap();
        assert!((0..=1).contains(&(today - began).num_days()), "{by_day:#}");
        assert_eq!((&by_day["object"], &by_day["by"]), (&json!("list"), &json!(["day"])));

        let by_model = read(&app, &ada, "/v1/usage?by=model").await;
        let counts: Vec<_> = by_model["data"].as_array().unwrap().iter().map(|group| (&group["model"], &group["requests"])).collect();
        assert_eq!(counts, [(&json!(OTHER), &json!(1)), (&json!(MODEL), &json!(3))]);

        let by_key = read(&app, &ada, "/v1/usage?by=key,status").await;
        assert_eq!(by_key["data"][0]["key"], Value::Null, "in a session");
        assert_eq!(by_key["data"][1]["key"], json!({"id": key, "name": "a key"}));
        assert_eq!((&by_key["data"][1]["requests"], &by_key["data"][1]["status"]), (&json!(1), &json!("complete")));

        // Page by page it is the same.
        let first = read(&app, &ada, "/v1/usage?by=model&limit=1").await;
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = read(&app, &ada, &format!("/v1/usage?by=model&limit=1&cursor={cursor}")).await;
        assert_eq!(json!([first["data"][0], second["data"][0]]), by_model["data"]);
        assert_eq!((&second["next_cursor"], &second["total"]), (&Value::Null, &by_model["total"]));

        // Administrators see all, and may look at one.
        let users = read(&app, &root, "/v1/admin/usage?by=user").await;
        assert_eq!(users["total"]["requests"], 5);
        let shown = |group: &Value| (group["user"]["email"].clone(), group["requests"].clone());
        let mut shown: Vec<_> = users["data"].as_array().unwrap().iter().map(shown).collect();
        shown.sort_by_key(|(_, count)| count.as_u64());
        assert_eq!(shown, [(json!("eve@example.org"), json!(1)), (json!("ada@example.org"), json!(4))]);
        let of_eve = read(&app, &root, &format!("/v1/admin/usage?user={}&model={MODEL}", eve.user)).await;
        assert_eq!(of_eve["total"]["requests"], 1);
        let of_key = read(&app, &root, &format!("/v1/admin/usage?key={key}")).await;
        assert_eq!(of_key["total"]["requests"], 1);
        app.call("DELETE", &format!("/v1/admin/users/{}", eve.user)).bearer(&root.access).send().await.expect_status(204);
        let users = read(&app, &root, "/v1/admin/usage?by=user").await;
        assert_eq!(users["total"]["requests"], 5, "a deleted account's turns count");
        assert!(users["data"].as_array().unwrap().iter().any(|group| group["user"] == json!({"id": eve.user, "email": null})));
        app.finish().await;
    }

    async fn turns_are_listed_for_whom_they_belong_to(store) {
        let app = service(store, [Model::new(MODEL).parallel(4), Model::new(OTHER).parallel(4)]).await;
        let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
        let (_, secret) = app.create_key(&ada, "chat usage").await;
        app.chat(&ada, &unstored(OTHER, "first")).send().await.expect_status(200);
        let reply = app.post("/v1/chat", &prompt(MODEL, "second")).bearer(&secret).send().await.expect_status(200).json();
        let turns = settled(&app, &ada, 2).await;
        let named: Vec<_> = turns.iter().map(|turn| &turn["model"]).collect();
        assert_eq!(named, [MODEL, OTHER], "newest first");
        assert_eq!(turns[0]["conversation_id"], reply["conversation_id"]);
        assert_eq!(turns[0]["usage"]["prompt_tokens"], reply["usage"]["prompt_tokens"]);
        assert_eq!((&turns[1]["conversation_id"], &turns[1]["key"]), (&Value::Null, &Value::Null));

        let conversation = reply["conversation_id"].as_str().unwrap();
        for query in [
            format!("model={MODEL}"),
            // Another spelling of the same name.
            "model=QWEN3:8b".to_owned(),
            format!("conversation_id={conversation}"),
            "limit=1&status=complete".to_owned(),
        ] {
            let found = read(&app, &ada, &format!("/v1/turns?{query}")).await;
            assert_eq!(found["data"], json!([turns[0]]), "{query}");
        }
        let cursor = turns[0]["id"].as_str().unwrap();
        assert_eq!(read(&app, &ada, &format!("/v1/turns?cursor={cursor}")).await["data"], json!([turns[1]]));
        assert_eq!(read(&app, &ada, "/v1/turns?status=failed").await["data"], json!([]));
        for path in [
            "/v1/turns".to_owned(),
            format!("/v1/turns?cursor={cursor}"),
            format!("/v1/turns?conversation_id={conversation}"),
        ] {
            assert_eq!(read(&app, &eve, &path).await["data"], json!([]), "{path}");
        }
        assert_eq!(read(&app, &eve, "/v1/usage").await["total"]["requests"], 0);

        let shown = app.get(&format!("/v1/turns?model={MODEL}")).bearer(&secret).send().await;
        let (usage, timings) = (&turns[0]["usage"], &turns[0]["timings"]);
        let indented = |value: &Value| serde_json::to_string_pretty(value).unwrap().replace('\n', "\n      ");
        let expected = ROW.replace("‹usage›", &indented(usage)).replace("‹timings›", &indented(timings));
        assert_eq!(snapshot(&shown), expected);
        assert_eq!(usage["source"], "reported");
        assert!(timings["total_ms"].as_u64() >= timings["first_token_ms"].as_u64(), "{timings}");
        app.finish().await;
    }
}

fn lines(file: &Reply) -> Vec<Vec<String>> {
    let text = file.text();
    assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains('\n'), "{text:?}");
    text.split_terminator("\r\n").map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[tokio::test]
async fn a_file_is_whole_named_and_harmless_to_open() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let wanted = json!({"name": "=HYPERLINK(1)", "scopes": ["chat", "usage"]});
    let key = app.post("/v1/api-keys", &wanted).bearer(&ada.access).send().await.expect_status(201).json();
    let secret = key["key"].as_str().unwrap();
    app.post("/v1/chat", &unstored(MODEL, "one")).bearer(secret).send().await.expect_status(200);
    let turns = settled(&app, &ada, 1).await;

    let ask = |path: &str| app.get(path).bearer(&ada.access);
    let file =
        ask("/v1/usage?by=key&from=2026-01-01&to=2026-12-31&format=csv").send().await.expect_status(200);
    assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let named = "attachment; filename=\"usage-2026-01-01-2026-12-31.csv\"";
    assert_eq!(file.header("content-disposition"), Some(named));

    let by_accept = ask("/v1/usage?by=key").header("accept", "text/csv, application/json;q=0.5").send().await;
    let [names, cells] = &lines(&by_accept)[..] else { panic!("{by_accept:?}") };
    let cell = |name: &str| cells[names.iter().position(|column| column == name).unwrap()].clone();
    assert_eq!(
        (cell("key_id").as_str(), cell("key_name").as_str()),
        (key["id"].as_str().unwrap(), "'=HYPERLINK(1)")
    );
    assert_eq!(cell("total_tokens"), turns[0]["usage"]["total_tokens"].to_string());
    let json = ask("/v1/usage?by=key&format=json").header("accept", "text/csv").send().await;
    assert_eq!(json.json()["data"][0]["key"]["name"], "=HYPERLINK(1)", "as it is called");
    app.finish().await;
}

#[tokio::test]
async fn what_means_nothing_is_refused_by_name() {
    let app = TestApp::on(Store::Sqlite).await;
    let root = app.administrator("root@example.org").await;
    let refused = async |path: String, at: &str| {
        let reply: Reply = Call::new(app.addr(), "GET", &path).bearer(&root.access).send().await;
        assert_eq!(reply.expect_error(400, "invalid_request").json()["error"]["param"], at, "{path}");
    };
    for (query, at) in [
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("to=2026-11-31", "to"),
        ("to=2026-11-30T00:00:00Z", "to"),
        ("from=2026-11-30&to=2026-11-01", "from"),
        ("from=9998-01-01", "from"),
        ("from=2024-01-01&to=2025-01-01", "from"),
        ("by=week", "by"),
        ("by=", "by"),
        ("by=day,", "by"),
        ("model=..%2Fx", "model"),
        ("key=mine", "key"),
        ("format=xml", "format"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("by=model&cursor=2026-11-30.-.-.-.-", "cursor"),
        ("format=csv&cursor=2026-11-30.-.-.-.-", "cursor"),
    ] {
        for path in ["/v1/usage", "/v1/admin/usage"] {
            refused(format!("{path}?{query}"), at).await;
        }
    }
    refused("/v1/usage?by=user".to_owned(), "by").await;
    refused("/v1/admin/usage?user=ada".to_owned(), "user").await;
    for (query, at) in [
        ("status=done", "status"),
        ("model=%20", "model"),
        ("conversation_id=1", "conversation_id"),
        ("cursor=x", "cursor"),
        ("limit=x", "limit"),
    ] {
        refused(format!("/v1/turns?{query}"), at).await;
    }
    app.finish().await;
}
