//! What the shipped files say in numbers stands in step with the service's own bounds.

use std::{fs, path::Path, time::Duration};

use deepersensor::config::{Config, Sources};

/// The value of a directive that a shipped file has once.
fn said(file: &str, directive: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("nginx").join(file);
    let text = fs::read_to_string(path).unwrap();
    let values: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(directive)?.strip_prefix(' ')?.strip_suffix(';'))
        .collect();
    let [value] = values[..] else { panic!("{file} says {directive} {} times", values.len()) };
    value.to_owned()
}

fn seconds(file: &str, directive: &str) -> Duration {
    let value = said(file, directive);
    Duration::from_secs(value.strip_suffix('s').unwrap().parse().unwrap())
}

#[test]
fn b03_nginx_waits_for_the_slow_as_long_as_the_service_would() {
    let http = Config::load(&Sources::default()).unwrap().http;
    assert_eq!(said("chat.conf", "client_max_body_size"), format!("{}m", http.max_request_bytes >> 20));
    assert_eq!(seconds("bounds.conf", "client_header_timeout"), http.header_read_timeout);
    assert_eq!(seconds("bounds.conf", "client_body_timeout"), http.body_progress_timeout);
    assert_eq!(seconds("bounds.conf", "send_timeout"), http.write_stall_timeout);
}

#[test]
fn b03_a_body_about_a_conversation_is_the_largest_that_needs_no_file() {
    assert_eq!(
        said("conversations.conf", "client_max_body_size"),
        said("bounds.conf", "client_body_buffer_size")
    );
}

#[test]
fn b16_a_stream_is_given_up_after_several_heartbeats_and_a_whole_answer_after_any_deadline() {
    let http = Config::load(&Sources::default()).unwrap().http;
    assert!(seconds("sse.conf", "proxy_read_timeout") >= 4 * http.heartbeat);
    assert!(seconds("bounds.conf", "proxy_read_timeout") > Duration::from_secs(3_600));
}

#[test]
fn b02_nginx_gives_a_connection_up_before_the_service_does_idle_or_stopping() {
    let http = Config::load(&Sources::default()).unwrap().http;
    for file in ["upstream.conf", "upstream.compose.conf"] {
        let kept = seconds(file, "keepalive_timeout");
        assert!(kept < http.header_read_timeout && kept < http.drain_accept, "{file}: {kept:?}");
    }
}
