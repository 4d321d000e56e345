//! `POST /v1/auth/signup`

use serde_json::json;

use crate::harness::{PASSWORD, TestApp, both_stores, snapshot};

const CREATED: &str = r#"201
content-type: application/json
x-request-id: ‹uuid v7›
{
  "id": "‹uuid v7›",
  "email": "ada@example.org"
}
"#;

const TAKEN: &str = r#"409
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "conflict",
    "message": "there is already an account with this e-mail address",
    "type": "invalid_request_error",
    "param": "email",
    "request_id": "‹uuid v7›"
  }
}
"#;

both_stores! {
    async fn an_account_is_created_once_in_any_spelling_of_its_address(store) {
        let app = TestApp::on(store).await;
        let sign_up = |email| app.post("/v1/auth/signup", &json!({"email": email, "password": PASSWORD}));
        let created = sign_up("  Ada@Example.ORG ").send().await;
        assert_eq!(snapshot(&created), CREATED);
        for email in ["ada@example.org", "ADA@EXAMPLE.ORG", "\tada@example.org\n"] {
            assert_eq!(snapshot(&sign_up(email).send().await), TAKEN);
        }
        assert_eq!(app.database.number("SELECT count(*) FROM users").await, 1);
        assert_eq!(app.database.texts("SELECT event FROM audit_log WHERE event <> 'authn_key_rotated'").await, ["user_created"]);
        app.finish().await;
    }

    async fn of_two_that_sign_up_with_one_address_at_once_one_wins(store) {
        let app = TestApp::on(store).await;
        let sign_up = || {
            app.post("/v1/auth/signup", &json!({"email": "ada@example.org", "password": PASSWORD})).send()
        };
        let (one, two, three) = tokio::join!(sign_up(), sign_up(), sign_up());
        let mut statuses = [one.status, two.status, three.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
        app.finish().await;
    }

    async fn a01_a_password_has_8_to_256_code_points_and_all_of_them_count(store) {
        let app = TestApp::on(store).await;
        let sign_up = |password: &str| {
            let email = format!("{}@example.org", password.chars().count());
            app.post("/v1/auth/signup", &json!({"email": email, "password": password})).send()
        };
        // Two bytes each: it is not bytes that are counted.
        let of = |characters: usize| "\u{e4}\u{f6}".chars().cycle().take(characters).collect::<String>();
        for (characters, why) in [(7, "at least 8 characters"), (257, "at most 256 characters")] {
            let refused = sign_up(&of(characters)).await.expect_error(422, "invalid_request");
            let error = &refused.json()["error"];
            assert_eq!(error["param"], "password");
            assert!(error["message"].as_str().unwrap().contains(why), "{characters}: {error}");
        }
        for characters in [8, 64, 256] {
            sign_up(&of(characters)).await.expect_status(201);
            let email = format!("{characters}@example.org");
            let log_in = |password| app.post("/v1/auth/login", &json!({"email": email, "password": password})).send();
            log_in(of(characters)).await.expect_status(200);
            log_in(of(characters - 1)).await.expect_error(401, "unauthenticated");
        }
        app.finish().await;
    }

    async fn a01_passwords_that_agree_in_their_first_72_bytes_are_not_interchangeable(store) {
        let app = TestApp::on(store).await;
        let long = "correct horse battery staple ".repeat(4);
        let credentials = |end: &str| json!({"email": "ada@example.org", "password": format!("{long}{end}")});
        app.post("/v1/auth/signup", &credentials("one")).send().await.expect_status(201);
        app.post("/v1/auth/login", &credentials("two")).send().await.expect_error(401, "unauthenticated");
        app.post("/v1/auth/login", &credentials("one")).send().await.expect_status(200);
        app.finish().await;
    }

    async fn a02_weak_passwords_are_refused_with_the_reason_and_no_rule_of_composition_is_made(store) {
        let app = TestApp::on(store).await;
        let sign_up = |password: &str| {
            app.post("/v1/auth/signup", &json!({"email": "ada.lovelace@example.org", "password": password})).send()
        };
        for (password, why) in [
            ("password1", "one of the most common passwords"),
            ("PASSWORD1", "one of the most common passwords"),
            ("ada.lovelace", "built from the e-mail address"),
            ("deepersensor1", "built from the e-mail address or the name of this service"),
            ("ollama2026", "built from the e-mail address or the name of this service"),
        ] {
            let reply = sign_up(password).await.expect_error(422, "invalid_request");
            let error = &reply.json()["error"];
            assert_eq!(error["param"], "password");
            assert!(error["message"].as_str().unwrap().contains(why), "{password}: {error}");
            assert!(!reply.text().contains(password), "a reply repeats a password");
        }
        sign_up("letters n space").await.expect_status(201);
        app.finish().await;
    }

    async fn a05_one_network_makes_ten_accounts_or_learns_of_as_many_and_then_waits(store) {
        let app = TestApp::on(store).await;
        let sign_up = |n: u32| {
            // The exception of A5: a taken address is told, so how many one network asks about is bounded.
            let body = json!({"email": format!("user-{}@example.org", n / 2), "password": PASSWORD});
            app.post("/v1/auth/signup", &body).from([198, 51, 100, 7]).send()
        };
        for n in 0..10 {
            assert_eq!(sign_up(n).await.status, if n % 2 == 0 { 201 } else { 409 });
        }
        for n in [8, 10] {
            let refused = sign_up(n).await.expect_error(429, "rate_limited");
            assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        }
        app.post("/v1/auth/signup", &json!({"email": "far@example.org", "password": PASSWORD})).send().await.expect_status(201);
        app.finish().await;
    }
}

#[tokio::test]
async fn what_is_no_address_is_refused_before_a_password_is_hashed() {
    let app = TestApp::on(crate::harness::Store::Sqlite).await;
    let too_long = format!("{}@example.org", "a".repeat(250));
    for email in
        ["", "ada", "@example.org", "ada@", "a b@example.org", "ada@example.org.", &too_long, "a@b@c"]
    {
        let body = json!({"email": email, "password": PASSWORD});
        for path in ["/v1/auth/signup", "/v1/auth/login"] {
            let reply = app.post(path, &body).send().await.expect_error(400, "invalid_request");
            assert_eq!(reply.json()["error"]["param"], "email", "{email:?}");
        }
    }
    assert!(app.metrics().await.contains("deepersensor_password_hash_seconds_count 0"));
    app.finish().await;
}
