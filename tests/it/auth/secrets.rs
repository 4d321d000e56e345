//! A8: the master secret, without which nothing is signed.

use std::os::unix::fs::PermissionsExt as _;

use domain::secret::Secret;

use super::rotation;
use crate::harness::{Options, TestApp, both_stores};

/// As good as the harness's own.
const OTHER: &str = "w3Nf8cKzR5tYq1bVj7LmXe0sHa9uPd2g-it";

/// Too short, thought up, or copied from somebody's documentation; `.env.example` and the like are read in `tests/cli.rs`.
const WORTHLESS: [&str; 8] = [
    "",
    " ",
    "secret",
    "your-256-bit-secret",
    "change-me-to-32-random-bytes-please",
    "your-super-secret-jwt-key-goes-here!",
    "0123456789abcdef0123456789abcdef",
    // One character less than will do.
    "Zk7rQ2vX9mB4tL8sW1yC6hN3dF5gJ0p",
];

both_stores! {
    async fn a08_no_service_starts_with_a_secret_that_is_short_or_known(store) {
        for secret in WORTHLESS {
            let refused = TestApp::try_start(Options::on(store).set("JWT_SECRET", secret)).await;
            let told = refused.err().unwrap_or_else(|| panic!("started with {secret:?}")).to_string();
            assert!(told.contains("JWT_SECRET"), "{secret:?}: {told}");
            assert!(secret.len() < 16 || !told.contains(secret), "{secret:?} is repeated");
        }
        // Nor when it did not come by way of the configuration's own rules.
        let weaken = |config: &mut deepersensor::config::Config| {
            config.system.auth.secret = Some(Secret::new("short".to_owned()));
        };
        let refused = TestApp::try_start(Options::on(store).tune(weaken)).await;
        let told = refused.err().expect("no start with a short secret").to_string();
        assert!(told.contains("auth.secret"), "{told}");
    }

    async fn a08_where_no_secret_is_given_one_is_drawn_that_its_owner_alone_may_read_and_that_stays(store) {
        let (mut app, other) = tokio::join!(
            TestApp::start(Options::on(store).without("JWT_SECRET")),
            TestApp::start(Options::on(store).without("JWT_SECRET")),
        );
        let file = app.data_dir().join("secret");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let drawn = |app: &TestApp| std::fs::read(app.data_dir().join("secret")).unwrap();
        assert!(drawn(&app).len() >= 32 && drawn(&app) != drawn(&other), "every service draws its own");

        let ada = app.sign_up_and_in("ada@example.org").await;
        other.get("/v1/auth/me").bearer(&ada.access).send().await.expect_error(401, "unauthenticated");
        app.restart(|_| ()).await;
        app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_status(200);
        other.finish().await;
        app.finish().await;
    }

    async fn a08_another_secret_is_refused_by_a_store_until_a_key_was_made_with_it(store) {
        let mut app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        app.stop().await;
        app.reconfigure(|config| config.system.auth.secret = Some(Secret::new(OTHER.to_owned())));
        for _ in 0..2 {
            let told = app.refused().await;
            assert!(told.contains("JWT_SECRET is not the one") && told.contains("keys rotate"), "{told}");
        }

        let made = app.rotate_key(None).await;
        app.restart(|_| ()).await;
        app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_error(401, "unauthenticated");
        let again = app.sign_in("ada@example.org", &ada.user).await;
        assert_eq!(rotation::kid(&again.access), made);
        app.get("/v1/auth/me").bearer(&again.access).send().await.expect_status(200);
        app.finish().await;
    }
}
