use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use domain::{
    chat::ToolCall,
    reply::{Delta, FailureCode, FinishReason, Position, Timings, Usage},
};
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (woken.clone(), woken.into())
}

fn open(bytes_max: usize) -> (ReplyWriter, ReplyReader) {
    channel(&ReplyBudget::new(1 << 20), bytes_max, OnDisconnect::Cancel)
}

fn content(text: &str) -> Delta {
    Delta::Content(text.to_owned())
}

/// Everything the reader has now, as text, and whether the end was among it.
fn drain(reader: &mut ReplyReader) -> (String, bool) {
    let mut out = String::new();
    let ended = loop {
        match reader.poll_events(&mut Context::from_waker(Waker::noop()), &mut |event| match event {
            Event::Queued(notice) => out.push_str(&format!("queued({}) ", notice.position)),
            Event::Started => out.push_str("started "),
            Event::Content { text, end } => out.push_str(&format!("{text}@{end} ")),
            Event::Thinking { text, end } => out.push_str(&format!("({text})@{end} ")),
            Event::ToolCall { call, end } => out.push_str(&format!("{}!@{end} ", call.name)),
            Event::Logprobs { tokens } => out.push_str(&format!("{} tokens ", tokens.len())),
            Event::Ended { ending, end } => out.push_str(&format!("{:?}@{end} ", ending.outcome)),
        }) {
            Poll::Ready(true) => break true,
            Poll::Ready(false) => {}
            Poll::Pending => break false,
        }
    };
    (out, ended)
}

fn complete() -> End {
    End::Complete(FinishReason::Stop)
}

#[test]
fn a_reader_gets_everything_in_order_and_one_end() {
    let (writer, mut reader) = open(1024);
    writer.notice(Notice { loading: false, position: 2, eta: None });
    writer.notice(Notice { loading: false, position: 1, eta: None });
    assert_eq!(drain(&mut reader).0, "queued(1) ");
    writer.started();
    writer.push([Delta::Thinking("hm".into()), content("a"), content("b")]).unwrap();
    assert_eq!(drain(&mut reader).0, "started (hm)@0.2.0 ab@2.2.0 ");
    writer.push([content("c")]).unwrap();
    writer
        .push([Delta::ToolCall(ToolCall {
            id: "1".into(),
            name: "sum".into(),
            arguments: serde_json::json!({}),
        })])
        .unwrap();
    assert_eq!(drain(&mut reader).0, "c@3.2.0 sum!@3.2.1 ");
    assert_eq!(drain(&mut reader), (String::new(), false));
    writer.push([content("d")]).unwrap();
    writer.end(complete());
    assert_eq!(drain(&mut reader), ("d@4.2.1 Complete(Stop)@4.2.1 ".into(), true));
    assert_eq!(drain(&mut reader), (String::new(), true));
}

#[test]
fn a_push_wakes_once_however_much_it_brings() {
    let (writer, mut reader) = open(1024);
    let (woken, waker) = waker();
    assert!(reader.poll_events(&mut Context::from_waker(&waker), &mut |_| ()).is_pending());
    writer.push((0..20).map(|i| content(&i.to_string()))).unwrap();
    writer.push([content("x")]).unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_notice_that_says_nothing_new_wakes_nobody() {
    let (writer, mut reader) = open(1024);
    let (woken, waker) = waker();
    let mut look = || reader.poll_events(&mut Context::from_waker(&waker), &mut |_| ());
    let second = Notice { loading: false, position: 2, eta: None };
    assert!(look().is_pending());
    writer.notice(second);
    assert!(look().is_ready() && look().is_pending());
    writer.notice(second);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    writer.notice(Notice { position: 1, ..second });
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_caller_that_waits_for_the_end_is_woken_for_nothing_else() {
    let (writer, mut reader) = open(1024);
    let (woken, waker) = waker();
    let mut finished = Box::pin(reader.finished());
    assert!(finished.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(writer.only_end_wanted());
    writer.started();
    writer.push([content("all of "), content("it")]).unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    writer.end(complete());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let (answer, ending) = finished.await;
    assert_eq!(answer.content, "all of it");
    assert_eq!(ending.outcome, Outcome::Complete(FinishReason::Stop));
}

#[test]
fn the_first_word_is_waited_for_and_stays_to_be_read() {
    let (writer, mut reader) = open(1 << 16);
    let mut first = || reader.first_word().now_or_never();
    writer.started();
    assert_eq!(first(), None, "that it has begun is no word");
    writer.push([content("a")]).unwrap();
    assert_eq!(first(), Some(None));
    assert_eq!(drain(&mut reader).0, "started a@1 ");

    let (writer, mut silent) = open(1 << 16);
    writer.end(complete());
    let ending = silent.first_word().now_or_never().unwrap().unwrap();
    assert_eq!(ending.outcome, Outcome::Complete(FinishReason::Stop));
}

#[test]
fn the_last_reader_to_leave_cancels_and_wakes_the_writer() {
    let (writer, reader) = open(1024);
    let (woken, waker) = waker();
    assert!(writer.poll_cancelled(&Context::from_waker(&waker)).is_pending());
    drop(reader);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(writer.is_cancelled());
}

#[test]
fn a_turn_told_to_continue_outlives_its_readers() {
    let (writer, reader) = channel(&ReplyBudget::new(1024), 1024, OnDisconnect::Continue);
    drop(reader);
    assert!(!writer.is_cancelled());
}

#[test]
fn cancelling_before_a_worker_took_the_turn_runs_the_abandon_hook_once() {
    let (writer, reader) = open(1024);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    writer.on_abandon(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    reader.cancel();
    reader.cancel();
    drop(reader);
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

#[test]
fn a_dropped_writer_hands_the_turn_over_as_interrupted_with_its_text() {
    let (mut writer, mut reader) = open(1024);
    let (sent, received) = std::sync::mpsc::channel();
    writer.settle_with(Box::new(move |end, closer| {
        let _ = sent.send((end, closer.answer(), closer));
    }));
    writer.push([content("half a sen")]).unwrap();
    drop(writer);
    let (end, answer, closer) = received.recv().unwrap();
    assert_eq!(end, End::Interrupted(FailureCode::Internal));
    assert_eq!(answer.content, "half a sen");
    assert!(!drain(&mut reader).1, "the end is told only once the settlement says so");
    drop(closer);
    assert!(drain(&mut reader).1, "a closer that died still ends the stream");
}

#[test]
fn the_settlement_writes_the_ending_that_readers_see() {
    let (mut writer, mut reader) = open(1024);
    let ending = Ending {
        outcome: Outcome::Complete(FinishReason::Length),
        usage: Usage { prompt_tokens: 3, ..Usage::default() },
        timings: Timings::default(),
        stored: Some(true),
    };
    let told = ending.clone();
    writer.settle_with(Box::new(move |_, closer| closer.close(told)));
    writer.end(complete());
    let mut seen = None;
    assert!(
        reader
            .poll_events(&mut Context::from_waker(Waker::noop()), &mut |event| {
                if let Event::Ended { ending, .. } = event {
                    seen = Some(ending.clone());
                }
            })
            .is_ready()
    );
    assert_eq!(seen, Some(ending));
}

#[test]
fn an_answer_beyond_its_bound_is_refused_and_what_fitted_is_kept() {
    let (writer, _reader) = open(10);
    assert_eq!(writer.push([content("12345"), content("67890"), content("!")]), Err(ReplyFull));
    assert_eq!(writer.answer().content, "1234567890");
}

#[test]
fn all_answers_share_one_budget_and_give_it_back() {
    let budget = ReplyBudget::new(100);
    let (one, reader_one) = channel(&budget, 100, OnDisconnect::Cancel);
    let (two, _reader_two) = channel(&budget, 100, OnDisconnect::Cancel);
    one.push([content(&"x".repeat(85))]).unwrap();
    assert!(!budget.admits());
    assert_eq!(two.push([content(&"y".repeat(20))]), Err(ReplyFull));
    drop((one, reader_one));
    assert!(budget.admits());
    two.push([content(&"y".repeat(20))]).unwrap();
    assert_eq!(budget.used(), 20);
}

fn call(name: &str) -> Delta {
    Delta::ToolCall(ToolCall { id: name.into(), name: name.into(), arguments: serde_json::json!({}) })
}

fn at(content: u32, thinking: u32, tool_calls: u32) -> Position {
    Position { content, thinking, tool_calls }
}

#[test]
fn who_attaches_gets_what_lies_after_the_position_and_all_that_comes() {
    let (writer, mut reader) = open(1024);
    let log = reader.log();
    writer.started();
    writer.push([Delta::Thinking("hmm".into()), content("aé"), call("sum"), call("now")]).unwrap();
    let mut late = log.attach(at(1, 3, 1)).unwrap();
    assert_eq!(drain(&mut late).0, "started é@3.3.1 now!@3.3.2 ");
    writer.push([content("b")]).unwrap();
    assert_eq!(drain(&mut late).0, "b@4.3.2 ");
    assert_eq!(drain(&mut reader).0, "started (hmm)@0.3.0 aé@3.3.0 sum!@3.3.1 now!@3.3.2 b@4.3.2 ");
    writer.end(complete());
    assert_eq!(drain(&mut late), ("Complete(Stop)@4.3.2 ".into(), true));
    let mut after = log.attach(at(4, 0, 2)).unwrap();
    assert_eq!(drain(&mut after), ("started (hmm)@4.3.2 Complete(Stop)@4.3.2 ".into(), true));
}

#[test]
fn a_position_the_answer_never_had_is_refused() {
    let (writer, reader) = open(1024);
    let log = reader.log();
    writer.push([content("aé"), call("sum"), Delta::Thinking("ü".into())]).unwrap();
    for never in [at(4, 0, 0), at(2, 0, 0), at(0, 1, 0), at(0, 3, 0), at(0, 0, 2)] {
        assert_eq!(log.attach(never).err(), Some(AttachError::NoSuchPosition), "{never}");
    }
    drop(reader);
    assert!(writer.is_cancelled(), "who was refused is no reader");
}

#[test]
fn who_attaches_in_time_keeps_the_turn_alive_and_who_comes_late_sees_its_end() {
    let (writer, reader) = open(1024);
    let log = reader.log();
    let second = log.attach(Position::default()).unwrap();
    drop(reader);
    assert!(!writer.is_cancelled());
    drop(second);
    assert!(writer.is_cancelled());
    let mut late = log.attach(Position::default()).unwrap();
    writer.end(End::Cancelled);
    let (said, ended) = drain(&mut late);
    assert!(ended && said.contains("Cancelled"), "{said}");
}

#[test]
fn an_attach_and_the_last_leave_at_once_have_one_of_two_outcomes() {
    for round in 0..200 {
        let (writer, reader) = open(1024);
        let log = reader.log();
        let leaving = std::thread::spawn(move || drop(reader));
        let attached = log.attach(Position::default()).unwrap();
        let was_cancelled = writer.is_cancelled();
        leaving.join().unwrap();
        assert_eq!(
            writer.is_cancelled(),
            was_cancelled,
            "round {round}: it was alive, and died with a reader"
        );
        drop(attached);
        assert!(writer.is_cancelled());
    }
}

#[test]
fn readers_are_bounded_and_their_slots_are_used_again() {
    let (writer, first) = open(1024);
    let log = first.log();
    let mut readers: Vec<_> = (1..READERS_MAX).map(|_| log.attach(Position::default()).unwrap()).collect();
    assert_eq!(log.attach(Position::default()).err(), Some(AttachError::TooManyReaders));
    readers.swap_remove(7);
    let (woken, waker) = waker();
    let mut again = log.attach(Position::default()).unwrap();
    assert!(again.poll_events(&mut Context::from_waker(&waker), &mut |_| ()).is_pending());
    writer.push([content("x")]).unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(drain(&mut again).0, "x@1 ");
}

#[test]
fn a_turn_that_lived_too_long_says_so_and_keeps_its_text() {
    let (writer, mut reader) = open(1024);
    let log = reader.log();
    writer.push([content("so far")]).unwrap();
    log.expire();
    log.cancel();
    assert!(writer.is_cancelled());
    writer.end(End::Cancelled);
    let (said, _) = drain(&mut reader);
    assert!(said.starts_with("so far@6 Failed { code: DeadlineExceeded"), "{said}");
}

/// What a reader of the parts has read.
#[derive(Default, PartialEq, Debug, Clone)]
struct Read {
    content: String,
    thinking: String,
    calls: Vec<String>,
    at: Position,
}

impl Read {
    fn look(&mut self, reader: &mut ReplyReader) {
        let _ = reader.poll_events(&mut Context::from_waker(Waker::noop()), &mut |event| match event {
            Event::Content { text, end } => {
                self.content.push_str(text);
                self.at = end;
            }
            Event::Thinking { text, end } => {
                self.thinking.push_str(text);
                self.at = end;
            }
            Event::ToolCall { call, end } => {
                self.calls.push(call.name.clone());
                self.at = end;
            }
            _ => {}
        });
    }
}

fn delta(kind: u8, text: String) -> Delta {
    match kind {
        0 => Delta::Content(text),
        1 => Delta::Thinking(text),
        _ => Delta::ToolCall(ToolCall { id: text.clone(), name: text, arguments: serde_json::Value::Null }),
    }
}

proptest! {
    #[test]
    fn b16_however_often_a_reader_is_cut_off_and_comes_back_it_reads_every_piece_once(
        deltas in prop::collection::vec((0..3u8, "[a-zé😀]{0,4}", 0..3u8), 0..40)
    ) {
        let (writer, mut uncut) = open(1 << 16);
        let log = uncut.log();
        let (mut cut, mut read, mut whole) = (log.attach(Position::default()).unwrap(), Read::default(), Read::default());
        for (kind, text, then) in deltas {
            writer.push([delta(kind, text)]).unwrap();
            if then > 0 {
                read.look(&mut cut);
            }
            if then > 1 {
                drop(cut);
                cut = log.attach(read.at).unwrap();
            }
        }
        drop(cut);
        writer.end(complete());
        read.look(&mut log.attach(read.at).unwrap());
        whole.look(&mut uncut);
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn an_answer_can_be_read_on_from_any_position_it_ever_had(
        deltas in prop::collection::vec((0..3u8, "[a-zé😀]{0,4}"), 0..20), cut in any::<prop::sample::Index>()
    ) {
        let (writer, mut uncut) = open(1 << 16);
        let mut positions = vec![Position::default()];
        for (kind, text) in deltas {
            let delta = delta(kind, text);
            let mut at = positions[positions.len() - 1];
            match &delta {
                Delta::Logprobs(_) => {}
                Delta::ToolCall(_) => {
                    at.tool_calls += 1;
                    positions.push(at);
                }
                Delta::Content(text) | Delta::Thinking(text) => for character in text.chars() {
                    let part = if matches!(delta, Delta::Content(_)) { &mut at.content } else { &mut at.thinking };
                    *part += character.len_utf8() as u32;
                    positions.push(at);
                },
            }
            writer.push([delta]).unwrap();
        }
        let from = positions[cut.index(positions.len())];
        let (mut whole, mut rest) = (Read::default(), Read { at: from, ..Read::default() });
        rest.look(&mut uncut.log().attach(from).unwrap());
        whole.look(&mut uncut);
        prop_assert_eq!(&whole.content[from.content as usize..], &rest.content);
        prop_assert_eq!(&whole.thinking[from.thinking as usize..], &rest.thinking);
        prop_assert_eq!(&whole.calls[from.tool_calls as usize..], &rest.calls);
        prop_assert_eq!(whole.at, rest.at);
    }

    #[test]
    fn whenever_a_reader_looks_it_reads_the_same_answer(
        deltas in prop::collection::vec((0..3u8, "[a-zé😀]{0,4}", prop::bool::ANY), 0..40)
    ) {
        let (writer, mut reader) = open(1 << 16);
        let (mut content, mut thinking, mut calls) = (String::new(), String::new(), 0);
        let mut last = Position::default();
        let mut look = |reader: &mut ReplyReader| {
            let _ = reader.poll_events(&mut Context::from_waker(Waker::noop()), &mut |event| match event {
                Event::Content { text, end } => { content.push_str(text); last = end; }
                Event::Thinking { text, end } => { thinking.push_str(text); last = end; }
                Event::ToolCall { end, .. } => { calls += 1; last = end; }
                _ => {}
            });
        };
        for (kind, text, looks) in deltas {
            writer.push([delta(kind, text)]).unwrap();
            if looks {
                look(&mut reader);
            }
        }
        look(&mut reader);
        let whole = writer.answer();
        prop_assert_eq!(&whole.content, &content);
        prop_assert_eq!(&whole.thinking, &thinking);
        prop_assert_eq!(whole.tool_calls.len(), calls);
        let end = Position {
            content: content.len() as u32,
            thinking: thinking.len() as u32,
            tool_calls: calls as u32,
        };
        prop_assert_eq!(last, end);
    }
}

#[test]
fn b14_a_turn_whose_caller_leaves_before_it_has_begun_ends_as_cancelled_even_if_it_was_to_continue() {
    let ended = |begun: bool| {
        let (mut writer, reader) = channel(&ReplyBudget::new(1 << 20), 1 << 10, OnDisconnect::Continue);
        let (tell, told) = std::sync::mpsc::channel();
        writer.settle_with(Box::new(move |end, _closer| drop(tell.send(end))));
        writer.begins();
        if begun {
            writer.has_begun();
        }
        drop(reader);
        drop(writer);
        told.recv().unwrap()
    };
    assert_eq!(ended(false), End::Cancelled);
    assert_eq!(ended(true), End::Interrupted(FailureCode::Internal));
}
