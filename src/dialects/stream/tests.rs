use std::{collections::VecDeque, future::poll_fn};

use actors::reply::{Ending, Outcome};
use domain::reply::{FailureCode, FinishReason, Position};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::dialects::native::{
    Encoder,
    sse::tests::{encoder, ended},
};

enum Step {
    Say(Vec<&'static str>),
    Wait(Duration),
    Forever,
    End(Ending),
}

/// A turn that does as written, then notes that its reader was dropped.
struct Script {
    steps: VecDeque<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
    at: u32,
    left: CancellationToken,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.left.cancel();
    }
}

impl Events for Script {
    fn poll_events(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(Event<'_>)) -> Poll<bool> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        match self.steps.pop_front() {
            Some(Step::Say(words)) => {
                for text in words {
                    self.at += u32::try_from(text.len()).unwrap();
                    take(Event::Content { text, end: Position { content: self.at, ..Position::default() } });
                }
                Poll::Ready(false)
            }
            Some(Step::Wait(time)) => {
                self.waiting = Some(Box::pin(tokio::time::sleep(time)));
                self.poll_events(cx, take)
            }
            Some(Step::End(ending)) => {
                take(Event::Ended {
                    ending: &ending,
                    end: Position { content: self.at, ..Position::default() },
                });
                Poll::Ready(true)
            }
            Some(Step::Forever) | None => Poll::Pending,
        }
    }
}

struct Rig {
    stream: TurnStream<Script, Encoder>,
    left: CancellationToken,
    ending: CancellationToken,
}

fn rig(steps: Vec<Step>, deadline: Duration) -> Rig {
    let (left, ending) = (CancellationToken::new(), CancellationToken::new());
    let script = Script { steps: steps.into(), waiting: None, at: 0, left: left.clone() };
    let deadline = Instant::now() + deadline;
    let heartbeat = Duration::from_secs(15);
    let stream = TurnStream {
        events: Some(script),
        encoder: encoder(),
        heartbeat,
        deadline,
        said_at: Instant::now(),
        timer: Box::pin(sleep_until(deadline.min(Instant::now() + heartbeat))),
        ending: Box::pin(ending.clone().cancelled_owned()),
    };
    Rig { stream, left, ending }
}

async fn next(stream: &mut TurnStream<Script, Encoder>) -> Option<String> {
    let frame = stream.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(frame.to_vec()).unwrap())
}

fn done() -> Step {
    Step::End(ended(Outcome::Complete(FinishReason::Stop)))
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_ready_goes_out_as_one_frame() {
    let mut rig = rig(vec![Step::Say(vec!["a", "b", "c"]), done()], Duration::from_secs(600));
    let first = next(&mut rig.stream).await.unwrap();
    assert_eq!(first.matches("event: chunk\n").count(), 3);
    assert!(next(&mut rig.stream).await.unwrap().starts_with("event: done\nid: 3\n"));
    assert!(rig.stream.is_end_stream());
    assert_eq!(next(&mut rig.stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn b16_a_silent_stream_says_a_comment_every_fifteen_seconds() {
    let pause = Duration::from_secs(40);
    let mut rig = rig(vec![Step::Say(vec!["a"]), Step::Wait(pause), done()], Duration::from_secs(600));
    let began = Instant::now();
    next(&mut rig.stream).await.unwrap();
    for beat in 1..=2 {
        assert_eq!(next(&mut rig.stream).await.unwrap(), ": hb\n\n");
        assert_eq!(began.elapsed().as_secs(), beat * 15);
    }
    assert!(next(&mut rig.stream).await.unwrap().starts_with("event: done\n"));
    assert_eq!(began.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn b16_what_is_said_puts_the_next_comment_off() {
    let wait = || Step::Wait(Duration::from_secs(10));
    let steps = vec![wait(), Step::Say(vec!["a"]), wait(), Step::Say(vec!["b"]), Step::Forever];
    let mut rig = rig(steps, Duration::from_secs(600));
    let began = Instant::now();
    for at in [10, 20] {
        assert!(next(&mut rig.stream).await.unwrap().starts_with("event: chunk\n"));
        assert_eq!(began.elapsed().as_secs(), at);
    }
    assert_eq!(next(&mut rig.stream).await.unwrap(), ": hb\n\n");
    assert_eq!(began.elapsed().as_secs(), 35);
}

#[tokio::test(start_paused = true)]
async fn d04_a_stream_whose_time_is_over_says_so_and_lets_its_turn_go() {
    let mut rig = rig(vec![Step::Say(vec!["a"]), Step::Forever], Duration::from_secs(10));
    next(&mut rig.stream).await.unwrap();
    let last = next(&mut rig.stream).await.unwrap();
    assert!(
        last.starts_with("event: error\nid: 1\ndata: {\"error\":{\"code\":\"deadline_exceeded\""),
        "{last}"
    );
    assert!(rig.left.is_cancelled());
    assert_eq!(next(&mut rig.stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn d04_a_turn_that_never_pauses_does_not_outlive_its_deadline() {
    let steps =
        (0..10_000).flat_map(|_| [Step::Say(vec!["a"]), Step::Wait(Duration::from_millis(1))]).collect();
    let mut rig = rig(steps, Duration::from_secs(2));
    let mut last = String::new();
    while let Some(frame) = next(&mut rig.stream).await {
        last = frame;
    }
    assert!(last.contains("deadline_exceeded"), "{last}");
    assert!(rig.left.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn d07_a_stream_is_told_that_the_service_ends() {
    let mut rig = rig(vec![Step::Forever], Duration::from_secs(600));
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut rig.stream).poll_frame(cx).is_pending())).await);
    rig.ending.cancel();
    let last = next(&mut rig.stream).now_or_never().flatten().unwrap();
    assert!(last.starts_with("event: error\nid: 0\n") && last.contains("server_shutting_down"), "{last}");
    assert!(rig.left.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_failed_turn_is_the_last_thing_a_stream_says() {
    let failed = ended(Outcome::Failed {
        code: FailureCode::UpstreamError,
        message: "it broke".into(),
        retry_after: None,
    });
    let mut rig = rig(vec![Step::End(failed)], Duration::from_secs(600));
    assert!(
        next(&mut rig.stream).await.unwrap().contains("\"code\":\"upstream_error\",\"message\":\"it broke\"")
    );
    assert_eq!(next(&mut rig.stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn b17_dropping_the_stream_drops_the_reader() {
    let rig = rig(vec![Step::Forever], Duration::from_secs(600));
    drop(rig.stream);
    assert!(rig.left.is_cancelled());
}
