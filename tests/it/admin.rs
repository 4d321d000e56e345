//! `/v1/admin`

use crate::harness::{TestApp, both_stores, snapshot};

const FORBIDDEN: &str = r#"403
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "forbidden",
    "message": "this needs the role `admin`",
    "type": "permission_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

both_stores! {
    async fn a17_the_tree_is_for_administrators(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let path = "/v1/admin/actors";
        app.get(path).send().await.expect_error(401, "unauthenticated");
        assert_eq!(snapshot(&app.get(path).bearer(&ada.access).send().await), FORBIDDEN);

        let root = app.administrator("root@example.org").await;
        let me = app.get("/v1/auth/me").bearer(&root.access).send().await.expect_status(200).json();
        assert_eq!(me["role"], "admin");
        let tree = app.get(path).bearer(&root.access).send().await.expect_status(200).json();
        let own = app.actors().await;
        assert_eq!(tree["system"], own["system"]);
        let paths = |tree: &serde_json::Value| -> Vec<String> {
            tree["nodes"].as_array().unwrap().iter().map(|node| node["path"].to_string()).collect()
        };
        assert_eq!(paths(&tree), paths(&own));
        app.finish().await;
    }
}
