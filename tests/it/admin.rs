//! `/v1/admin`

use serde_json::json;

use crate::harness::{TestApp, both_stores, snapshot, until};

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

    async fn an_administrator_restarts_an_actor_and_the_tree_and_the_trail_tell_of_it(store) {
        let app = TestApp::on(store).await;
        let root = app.administrator("root@example.org").await;
        let restart = async |path: &str| {
            let body = json!({"path": path});
            app.post("/v1/admin/actors/restart", &body).bearer(&root.access).send().await
        };
        let shard = "limits_sup/shard-3";
        restart(shard).await.expect_status(204);
        until("the shard to be back", async || {
            let tree = app.actors().await;
            let is_it = |node: &&serde_json::Value| node["path"] == shard;
            let node = tree["nodes"].as_array().unwrap().iter().find(is_it).unwrap();
            node["restarts"] == 1 && node["status"] == "running" && node["last_exit"]["cause"] == "killed"
        })
        .await;
        let told = app.get("/v1/admin/audit?event=sys_restart").bearer(&root.access).send().await.json();
        assert_eq!([&told["data"][0]["detail"], &told["data"][0]["actor"]], [&json!(shard), &json!(root.user)]);

        // Rooms would count against the root, and what is not there cannot be restarted.
        for path in ["limits_sup", "root", "limits_sup/shard-16", "limits_sup/", "", "models_sup/none/worker-0"] {
            restart(path).await.expect_error(404, "not_found");
        }
        app.finish().await;
    }
}
