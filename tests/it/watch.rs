//! `deepersensor actors --watch`, as somebody reads it at night.

use std::{fs, fs::File, net::SocketAddr, path::PathBuf, process::Command};

use deepersensor::http::OpsDoor;
use serde_json::Value;
use support::{
    fake_ollama::Model,
    process::{Scratch, Service, free_port},
};

use crate::{
    harness::{Call, MODEL, Options, Store, TestApp, until},
    turn::{Actors, service},
};

const WORKER: &str = "models_sup/qwen3:8b/worker-0";

/// A running watch; ended when dropped.
struct Watch {
    process: Service,
    said: PathBuf,
    /// Lines that were read.
    read: usize,
    _scratch: Scratch,
}

impl Watch {
    fn start(address: SocketAddr, more: &[&str]) -> Self {
        let scratch = Scratch::new("watch", None).unwrap();
        let said = scratch.path().join("said");
        let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
        command.env_clear().args(["actors", "--watch", "--address", &address.to_string()]).args(more);
        command.stdout(File::create(&said).unwrap());
        let process = Service::start(command, None, &scratch, "TERM").unwrap();
        Self { process, said, read: 0, _scratch: scratch }
    }

    async fn line(&mut self) -> String {
        let mut line = None;
        until("the watch to say something", async || {
            let said = fs::read_to_string(&self.said).unwrap();
            // The last one may not be whole yet.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            line = whole.lines().nth(self.read).map(str::to_owned);
            line.is_some()
        })
        .await;
        self.read += 1;
        line.unwrap()
    }

    /// The next line that holds `text`, without its time.
    async fn told(&mut self, text: &str) -> String {
        loop {
            let line = self.line().await;
            if line.contains(text) {
                let (at, told) = line.split_once("  ").unwrap();
                assert!(at.len() == 9 && at.ends_with('Z'), "{line}");
                return told.to_owned();
            }
        }
    }
}

fn quick() -> [Model; 1] {
    [Model::new(MODEL).tokens(2)]
}

#[tokio::test]
async fn the_watch_tells_of_a_killed_worker_who_why_and_when_it_is_back_until_it_falls_too_often() {
    let app = service(Store::Sqlite, quick()).await;
    let actors = Actors::of(&app).await;
    let mut watch = Watch::start(app.ops_addr(), &[]);
    let first = watch.line().await;
    assert!(first.contains("actors run, 0 are degraded, 0 are down; waiting for news"), "{first}");
    for fall in 1..=6 {
        actors.back(WORKER).await;
        actors.kill(WORKER).await;
        let backoff = ["100 ms", "200 ms", "400 ms", "800 ms", "1.6 s", "3.2 s"][fall - 1];
        let fell =
            format!("{WORKER} was killed; it is started again in {backoff}, restart {fall} within 60 s");
        let too_often = ", where 5 are bearable: who needs it gets 503 until it has run for 30 s";
        let expected = if fall == 6 { fell + too_often } else { fell };
        assert_eq!(watch.told("was killed").await, expected);
        let back = watch.told("is back after").await;
        assert!(back.starts_with(WORKER) && back.contains("503") == (fall == 6), "{back}");
    }
    // Whoever comes later is told what was before.
    let mut late = Watch::start(app.ops_addr(), &["--json"]);
    let piece: Value = serde_json::from_str(&late.line().await).unwrap();
    assert_eq!((&piece["who"], &piece["kind"]), (&WORKER.into(), &"fell".into()));
    drop((watch, late));
    app.finish().await;
}

#[tokio::test]
async fn the_watch_finds_a_service_again_that_was_restarted() {
    let port = free_port().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let fixed = move |config: &mut deepersensor::config::Config| {
        config.http.ops = OpsDoor::new(Some(address), None).unwrap()
    };
    let mut app = TestApp::start(Options::on(Store::Sqlite).models(quick()).tune(fixed)).await;
    let mut watch = Watch::start(app.ops_addr(), &[]);
    watch.told("waiting for news").await;
    app.restart(|_| ()).await;
    assert_eq!(watch.told("the service stops").await, "the service stops");
    assert!(watch.told("is away").await.contains("it has stopped"));
    assert!(watch.told("there again").await.contains("actors run"));
    // It does not believe that it has seen the news of the new one already.
    let actors = Actors::of(&app).await;
    actors.kill(WORKER).await;
    watch.told("was killed").await;
    assert!(watch.process.ended().unwrap().is_none());
    drop(watch);
    app.finish().await;
}

#[tokio::test]
async fn events_are_told_from_where_a_reader_was_and_the_listener_says_what_it_cannot_understand() {
    let app = service(Store::Sqlite, quick()).await;
    let actors = Actors::of(&app).await;
    let open = async |query: &str| {
        let path = format!("/actors/events{query}");
        Call::new(app.ops_addr(), "GET", &path).open().await.expect_status(200)
    };
    let mut now = open("").await;
    assert_eq!(now.next().await.unwrap().event, "hello");
    actors.kill(WORKER).await;
    let fell = now.next().await.unwrap();
    let returned = now.next().await.unwrap();
    assert_eq!([&fell.data["kind"], &returned.data["kind"]], ["fell", "returned"]);
    let mut on = open(&format!("?after={}", fell.id)).await;
    let hello = on.next().await.unwrap();
    assert_eq!((hello.event.as_str(), &hello.data["missed"]), ("hello", &0.into()));
    assert_eq!(on.next().await.unwrap().id, returned.id);
    for query in ["?after=7", "?last=-1", "?last=100000"] {
        let path = format!("/actors/events{query}");
        Call::new(app.ops_addr(), "GET", &path).send().await.expect_error(400, "invalid_request");
    }
    drop((now, on));
    app.finish().await;
}
