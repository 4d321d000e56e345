//! `GET /v1/conversations?q=…`

use serde_json::{Value, json};

use crate::harness::{MODEL, Session, Store, TestApp, both_stores, until_found};

async fn say(app: &TestApp, session: &Session, text: &str) -> String {
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": text}]});
    let reply = app.chat(session, &body).send().await.expect_status(200).json();
    reply["conversation_id"].as_str().unwrap().to_owned()
}

/// The text with everything escaped that a query cannot hold.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn search(app: &TestApp, session: &Session, text: &str) -> Vec<Value> {
    let path = format!("/v1/conversations?q={}", escaped(text));
    let page = app.get(&path).bearer(&session.access).send().await.expect_status(200).json();
    page["data"].as_array().unwrap().clone()
}

/// Words are taken in the background: waits until so many are found.
async fn until_so_many(app: &TestApp, session: &Session, text: &str, conversations: usize) -> Vec<Value> {
    until_found(text, async || {
        let found = search(app, session, text).await;
        if found.len() == conversations { Ok(found) } else { Err(found) }
    })
    .await
}

both_stores! {
    async fn what_was_said_is_found_with_where_it_was_said(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let gulls = say(&app, &ada, "Tell me about herring gulls, please").await;
        say(&app, &ada, "Tell me about oystercatchers").await;
        // The title has the words as well, so the message is waited for.
        let found = until_found("a message with the words", async || {
            let found = search(&app, &ada, "GULLS herring").await;
            if found.iter().any(|one| !one["match"].is_null()) { Ok(found) } else { Err(found) }
        })
        .await;
        assert_eq!(found[0]["id"], json!(gulls));
        assert_eq!(found[0]["object"], "conversation");
        assert_eq!(found[0]["match"]["snippet"], "Tell me about herring gulls, please");
        let path = format!("/v1/conversations/{gulls}");
        let whole = app.get(&path).bearer(&ada.access).send().await.expect_status(200).json();
        let said = whole["messages"].as_array().unwrap();
        assert!(said.iter().any(|message| message["id"] == found[0]["match"]["message_id"]));

        assert_eq!(until_so_many(&app, &ada, "tell", 2).await.len(), 2);
        let first = app.get("/v1/conversations?q=tell&limit=1").bearer(&ada.access).send().await.json();
        let cursor = first["next_cursor"].as_str().unwrap();
        let rest = format!("/v1/conversations?q=tell&limit=1&cursor={cursor}");
        let rest = app.get(&rest).bearer(&ada.access).send().await.expect_status(200).json();
        assert!(rest["data"].as_array().unwrap().len() == 1 && rest["next_cursor"].is_null());
        assert_ne!(first["data"][0]["id"], rest["data"][0]["id"]);
        app.finish().await;
    }

    async fn a17_g8_a_search_is_plain_text_and_finds_nothing_of_others(store) {
        let app = TestApp::on(store).await;
        let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
        say(&app, &ada, "a heron at dusk").await;
        let bait = format!("heron §{} {}", ada.user.replace('-', ""), ada.user);
        say(&app, &eve, &bait).await;
        until_so_many(&app, &ada, "heron dusk", 1).await;
        until_so_many(&app, &eve, "heron", 1).await;
        for text in ["dusk", &format!("§{} dusk", ada.user.replace('-', "")), &format!("{} dusk", ada.user)] {
            assert!(search(&app, &eve, text).await.is_empty(), "{text}");
        }
        assert!(search(&app, &ada, &ada.user).await.is_empty());
        for (text, conversations) in [
            ("her%", 0), ("h_ron", 0), ("hero*", 0), ("her?n", 0), ("\"heron\"", 1), ("'heron'", 1), ("^heron", 1),
            ("words:heron", 0), ("heron OR nothing", 0), ("NEAR(heron dusk)", 0), ("heron\\", 1),
            ("heron'); DROP TABLE messages; --", 0), ("{heron} + dusk", 1), ("-heron", 1), ("heron\0dusk", 1),
        ] {
            assert_eq!(search(&app, &ada, text).await.len(), conversations, "{text}");
        }
        app.finish().await;
    }
}

#[tokio::test]
async fn g8_what_cannot_be_searched_for_is_refused() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for query in [
        "q=",
        "q=%25",
        "q=a",
        "q=***",
        "q=%FF",
        "q=a1+b2+c3+d4+e5+f6+g7+h8+i9",
        "q=heron&limit=0",
        "q=heron&cursor=x",
    ] {
        let call = app.get(&format!("/v1/conversations?{query}")).bearer(&ada.access);
        call.send().await.expect_error(400, "invalid_request");
    }
    let long = format!("/v1/conversations?q={}", "heron+".repeat(1_000));
    app.get(&long).bearer(&ada.access).send().await.expect_status(200);
    app.finish().await;
}
