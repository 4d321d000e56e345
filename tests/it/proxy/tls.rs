//! What is spoken on the port of TLS, and on the other one.

use support::nginx::Proxy;

use super::{
    Ground,
    curl::{curl, handshake},
};
use crate::harness::{Call, Options, Store, snapshot};

/// So that it is the server who refuses, not this client.
const ANYTHING: &str = "ALL:@SECLEVEL=0";

#[tokio::test]
async fn tls_is_1_2_or_1_3_with_forward_secrecy_and_authenticated_ciphers() {
    let proxy = Proxy::start(&["127.0.0.1:9".parse().unwrap()]).await.unwrap();
    let spoken = async |options: &[&str]| handshake(proxy.tls_addr(), options).await;
    for old in ["-tls1", "-tls1_1"] {
        let said = spoken(&[old, "-cipher", ANYTHING]).await;
        assert!(said.contains("alert protocol version"), "{old}: {said}");
    }
    for weak in ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"] {
        let said = spoken(&["-tls1_2", "-cipher", &format!("{weak}:@SECLEVEL=0")]).await;
        assert!(said.contains("alert handshake failure"), "{weak}: {said}");
    }
    for (version, named) in [("-tls1_2", "TLSv1.2, Cipher is ECDHE-"), ("-tls1_3", "TLSv1.3, Cipher is TLS_")]
    {
        let said = spoken(&[version]).await;
        assert!(said.contains(named), "{version}: {said}");
    }
}

#[tokio::test]
async fn clients_get_http_2_or_what_they_speak_with_every_header_once_and_no_version() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    for (option, version) in [("--http2", "http/2 200"), ("--http1.1", "http/1.1 200 ok")] {
        let shown = curl(&ground.proxy, "/healthz", &[option]).await;
        assert!(shown.head.starts_with(version), "{}", shown.head);
        for (name, value) in [
            ("strict-transport-security", "max-age=63072000"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("server", "nginx"),
        ] {
            assert_eq!(shown.values(name), [value], "{name}: {}", shown.head);
        }
        assert_eq!(shown.values("x-request-id").len(), 1, "{}", shown.head);
    }
    ground.finish().await;
}

#[tokio::test]
async fn without_tls_one_is_only_told_where_it_is() {
    let proxy = Proxy::start(&["127.0.0.1:9".parse().unwrap()]).await.unwrap();
    let (here, tls) = (proxy.redirect_addr(), proxy.tls_addr());
    let reply = Call::new(here, "POST", "/v1/chat?x=1").send().await.expect_status(308);
    assert_eq!(reply.header("location"), Some(format!("https://{tls}/v1/chat?x=1").as_str()));
    assert_eq!(reply.header("strict-transport-security"), None, "it means nothing here");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{}", snapshot(&reply));
}
