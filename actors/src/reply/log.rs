//! The log itself: text once, in order, cut into segments where its kind changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
};

use domain::{
    chat::ToolCall,
    reply::{Answer, Delta, Position, TokenLogprob},
};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{AttachError, Ending, Event, Notice, OnDisconnect, READERS_MAX, budget::ReplyBudget};

/// The answer outgrew its own bound or the budget of all answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is too large")]
pub struct ReplyFull;

pub(super) type OnAbandon = Box<dyn FnOnce() + Send>;

/// What writer, readers and closer of one turn share.
pub(super) struct Shared {
    pub log: Mutex<Log>,
    /// A [`Stop`], or 0; set once, and the writer polls it between reads.
    stopped: AtomicU8,
    writer: AtomicWaker,
    on_disconnect: OnDisconnect,
}

impl Shared {
    pub fn new(budget: ReplyBudget, bytes_max: usize, on_disconnect: OnDisconnect) -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::new(Log::new(budget, bytes_max)),
            stopped: AtomicU8::new(0),
            writer: AtomicWaker::new(),
            on_disconnect,
        })
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) != 0
    }

    pub fn has_expired(&self) -> bool {
        self.stopped.load(Ordering::Acquire) == Stop::Expired as u8
    }

    pub fn register_writer(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    /// Tells the writer to stop and whoever queues the turn to let it go; only the first time counts.
    pub fn stop(&self, why: Stop) -> bool {
        let is_first = self.mark_stopped(why);
        if is_first {
            self.tell_stopped();
        }
        is_first
    }

    fn mark_stopped(&self, why: Stop) -> bool {
        self.stopped.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn tell_stopped(&self) {
        self.writer.wake();
        let abandon = self.log.lock().abandon.take();
        if let Some(abandon) = abandon {
            abandon();
        }
    }

    /// A reader comes. Under the same lock as [`Shared::leave`]: it keeps the turn alive, or will see how it ended.
    pub fn attach(&self, from: Position) -> Result<(usize, Cursor), AttachError> {
        let mut log = self.log.lock();
        let cursor = log.cursor_at(from).ok_or(AttachError::NoSuchPosition)?;
        Ok((log.take_slot()?, cursor))
    }

    /// The same for who may have more than the log.
    pub fn attach_ahead(&self, from: Position) -> Result<(usize, Cursor), AttachError> {
        Ok((self.log.lock().take_slot()?, Cursor::after(from)))
    }

    /// Somebody reads along who keeps nothing alive.
    pub fn observe(&self) -> Result<usize, AttachError> {
        let mut log = self.log.lock();
        let slot = log.take_slot()?;
        log.observers.push(slot);
        Ok(slot)
    }

    /// A reader leaves. Its slot and "was it the last" are decided under one lock, so an attach wins or sees the end.
    pub fn leave(&self, reader: usize) {
        let is_abandoned = {
            let mut log = self.log.lock();
            log.readers[reader] = ReaderSlot::Left;
            log.observers.retain(|observer| *observer != reader);
            let is_unread = log.ending.is_none() && !log.is_read();
            is_unread && self.on_disconnect == OnDisconnect::Cancel && self.mark_stopped(Stop::Cancelled)
        };
        if is_abandoned {
            self.tell_stopped();
        }
    }

    /// Tells where the turn stands; what is no news wakes nobody.
    pub fn notice(&self, notice: Notice) {
        if notice.is_news_after(self.log.lock().notice) {
            self.update(News::State, |log| {
                log.notice = Some(notice);
                log.notices += 1;
            });
        }
    }

    /// Changes the log under its lock, then wakes the readers that care, outside it.
    pub fn update<T>(&self, news: News, change: impl FnOnce(&mut Log) -> T) -> T {
        let (out, wakers) = {
            let mut log = self.log.lock();
            let out = change(&mut log);
            (out, log.take_wakers(news))
        };
        wakers.wake();
        out
    }
}

/// Why a turn must end that could go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nobody wants it any more.
    Cancelled = 1,
    /// It lived as long as a turn may.
    Expired = 2,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Delta,
    /// Queue notices and the start.
    State,
    End,
}

/// Which news a sleeping reader wants to be woken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Everything,
    State,
    End,
}

pub(super) enum ReaderSlot {
    /// Not asleep now; `Interest` is what it last asked for.
    Awake(Interest),
    Asleep(Interest, Waker),
    Left,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Content,
    Thinking,
    ToolCall,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    part: Part,
    /// Where it begins in `text`; tool calls take no text.
    start: usize,
}

pub(super) struct Log {
    text: String,
    segments: Vec<Segment>,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
    end: Position,
    bytes: usize,
    bytes_max: usize,
    /// What the turn answers beside this log; it counts in the budget only.
    beside: usize,
    budget: ReplyBudget,
    pub notice: Option<Notice>,
    /// Rises with each notice, so that a reader knows whether it has told the latest.
    pub notices: u32,
    pub started: bool,
    pub ending: Option<Ending>,
    pub readers: Vec<ReaderSlot>,
    /// Those of the readers that keep nothing alive.
    observers: Vec<usize>,
    pub abandon: Option<OnAbandon>,
}

impl Log {
    fn new(budget: ReplyBudget, bytes_max: usize) -> Self {
        Self {
            text: String::new(),
            segments: Vec::new(),
            calls: Vec::new(),
            logprobs: Vec::new(),
            end: Position::default(),
            bytes: 0,
            bytes_max,
            beside: 0,
            budget,
            notice: None,
            notices: 0,
            started: false,
            ending: None,
            readers: vec![ReaderSlot::Awake(Interest::Everything)],
            observers: Vec::new(),
            abandon: None,
        }
    }

    /// Appends one delta; on refusal nothing of it is kept.
    pub fn push(&mut self, delta: Delta) -> Result<(), ReplyFull> {
        match delta {
            Delta::Content(text) => self.push_text(Part::Content, &text),
            Delta::Thinking(text) => self.push_text(Part::Thinking, &text),
            Delta::ToolCall(call) => self.push_call(call),
            Delta::Logprobs(tokens) => self.push_logprobs(tokens),
        }
    }

    /// A NUL character becomes U+FFFD, as it does in the store: positions must be the same in both.
    fn push_text(&mut self, part: Part, text: &str) -> Result<(), ReplyFull> {
        if text.is_empty() {
            return Ok(());
        }
        if text.contains('\0') {
            return self.push_text(part, &text.replace('\0', "\u{fffd}"));
        }
        self.grow(text.len())?;
        if self.segments.last().is_none_or(|last| last.part != part) {
            self.segments.push(Segment { part, start: self.text.len() });
        }
        self.text.push_str(text);
        // `bytes_max` keeps the length far below 4 GiB.
        let added = u32::try_from(text.len()).unwrap_or(u32::MAX);
        match part {
            Part::Content => self.end.content += added,
            Part::Thinking => self.end.thinking += added,
            Part::ToolCall => {}
        }
        Ok(())
    }

    fn push_call(&mut self, call: ToolCall) -> Result<(), ReplyFull> {
        self.grow(call.name.len() + call.id.len() + json_bytes(&call.arguments))?;
        self.segments.push(Segment { part: Part::ToolCall, start: self.text.len() });
        self.calls.push(call);
        self.end.tool_calls += 1;
        Ok(())
    }

    fn push_logprobs(&mut self, tokens: Vec<TokenLogprob>) -> Result<(), ReplyFull> {
        self.grow(tokens.iter().map(logprob_bytes).sum())?;
        self.logprobs.extend(tokens);
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ReplyFull> {
        let total = self.bytes + bytes;
        if total > self.bytes_max || !self.budget.take(bytes) {
            return Err(ReplyFull);
        }
        self.bytes = total;
        Ok(())
    }

    /// Has the budget hold `bytes` in all for what the turn answers beside this log, for as long as the log lives.
    pub fn hold(&mut self, bytes: usize) -> Result<(), ReplyFull> {
        let more = bytes.saturating_sub(self.beside);
        if !self.budget.take(more) {
            return Err(ReplyFull);
        }
        self.beside += more;
        Ok(())
    }

    pub fn end(&self) -> Position {
        self.end
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// A copy of the answer so far.
    pub fn answer(&self) -> Answer {
        let (tool_calls, logprobs) = (self.calls.clone(), self.logprobs.clone());
        let mut answer = Answer { tool_calls, logprobs, ..Answer::default() };
        answer.content.reserve_exact(self.end.content as usize);
        for (index, segment) in self.segments.iter().enumerate() {
            let text = &self.text[segment.start..self.segment_end(index)];
            match segment.part {
                Part::Content => answer.content.push_str(text),
                Part::Thinking => answer.thinking.push_str(text),
                Part::ToolCall => {}
            }
        }
        answer
    }

    fn segment_end(&self, index: usize) -> usize {
        self.segments.get(index + 1).map_or(self.text.len(), |next| next.start)
    }

    /// The place after `from`, counted in each part by itself, since the parts are not stored in the order in which they
    /// came. `None` when the answer has no such place, or it lies within a character.
    fn cursor_at(&self, from: Position) -> Option<Cursor> {
        let (mut content, mut thinking) = (from.content as usize, from.thinking as usize);
        for (index, segment) in self.segments.iter().enumerate() {
            let left = match segment.part {
                Part::Content => &mut content,
                Part::Thinking => &mut thinking,
                Part::ToolCall => continue,
            };
            let text = &self.text[segment.start..self.segment_end(index)];
            let skipped = text.len().min(*left);
            if !text.is_char_boundary(skipped) {
                return None;
            }
            *left -= skipped;
        }
        let is_within = content == 0 && thinking == 0 && from.tool_calls <= self.end.tool_calls;
        is_within.then(|| Cursor::after(from))
    }

    /// Whether anybody reads it, observers aside.
    fn is_read(&self) -> bool {
        let is_there = |(slot, reader): (usize, &ReaderSlot)| {
            !matches!(reader, ReaderSlot::Left) && !self.observers.contains(&slot)
        };
        self.readers.iter().enumerate().any(is_there)
    }

    /// A slot for one more reader: one that was left, or a new one.
    fn take_slot(&mut self) -> Result<usize, AttachError> {
        let slot = ReaderSlot::Awake(Interest::Everything);
        if let Some(free) = self.readers.iter().position(|slot| matches!(slot, ReaderSlot::Left)) {
            self.readers[free] = slot;
            return Ok(free);
        }
        if self.readers.len() >= READERS_MAX {
            return Err(AttachError::TooManyReaders);
        }
        self.readers.push(slot);
        Ok(self.readers.len() - 1)
    }

    /// Gives what lies after `cursor` to `take` and moves the cursor to the end; says whether there was anything.
    pub fn read(&self, cursor: &mut Cursor, take: &mut dyn FnMut(Event<'_>)) -> bool {
        let before = (cursor.at, cursor.logprobs);
        while let Some(segment) = self.segments.get(cursor.segment) {
            let end = self.segment_end(cursor.segment);
            let text = cursor.unread(segment.part, &self.text[cursor.offset..end]);
            match segment.part {
                Part::Content if !text.is_empty() => {
                    cursor.at.content += text.len() as u32;
                    take(Event::Content { text, end: cursor.at });
                }
                Part::Thinking if !text.is_empty() => {
                    cursor.at.thinking += text.len() as u32;
                    take(Event::Thinking { text, end: cursor.at });
                }
                Part::ToolCall if cursor.skip.tool_calls > 0 && !cursor.call_told => {
                    cursor.skip.tool_calls -= 1;
                    cursor.call_told = true;
                }
                Part::ToolCall if !cursor.call_told => {
                    let call = &self.calls[cursor.at.tool_calls as usize];
                    cursor.at.tool_calls += 1;
                    cursor.call_told = true;
                    take(Event::ToolCall { call, end: cursor.at });
                }
                _ => {}
            }
            cursor.offset = end;
            // The last segment may still grow: stay on it.
            if cursor.segment + 1 == self.segments.len() {
                break;
            }
            cursor.segment += 1;
            cursor.call_told = false;
        }
        if cursor.logprobs < self.logprobs.len() {
            take(Event::Logprobs { tokens: &self.logprobs[cursor.logprobs..] });
            cursor.logprobs = self.logprobs.len();
        }
        (cursor.at, cursor.logprobs) != before
    }

    fn take_wakers(&mut self, news: News) -> Wakers {
        let mut wakers = Wakers { first: None, rest: Vec::new() };
        for slot in &mut self.readers {
            let interest = match slot {
                ReaderSlot::Asleep(interest @ Interest::Everything, _) => *interest,
                ReaderSlot::Asleep(interest @ Interest::State, _) if news != News::Delta => *interest,
                ReaderSlot::Asleep(interest @ Interest::End, _) if news == News::End => *interest,
                _ => continue,
            };
            if let ReaderSlot::Asleep(_, waker) = std::mem::replace(slot, ReaderSlot::Awake(interest)) {
                wakers.add(waker);
            }
        }
        wakers
    }

    /// Puts a reader to sleep until there is news it cares for.
    pub fn sleep(&mut self, reader: usize, interest: Interest, waker: &Waker) {
        match &mut self.readers[reader] {
            ReaderSlot::Asleep(old, held) if held.will_wake(waker) => *old = interest,
            slot => *slot = ReaderSlot::Asleep(interest, waker.clone()),
        }
    }

    /// Whether no reader wants anything before the end.
    pub fn only_end_wanted(&self) -> bool {
        self.readers.iter().all(|slot| match slot {
            ReaderSlot::Awake(interest) | ReaderSlot::Asleep(interest, _) => *interest == Interest::End,
            ReaderSlot::Left => true,
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes + self.beside);
    }
}

/// A reader's place in the log.
#[derive(Default)]
pub(super) struct Cursor {
    segment: usize,
    offset: usize,
    /// How many of the tokens' probabilities were told.
    logprobs: usize,
    /// The tool call of the current segment has been given out.
    call_told: bool,
    /// What its reader has.
    at: Position,
    /// How much of that lies ahead of the cursor, in each part.
    skip: Position,
}

impl Cursor {
    /// The place of who has everything up to `from`.
    fn after(from: Position) -> Self {
        Self { at: from, skip: from, ..Self::default() }
    }

    /// `text`, which comes next, without what the reader has of it.
    fn unread<'a>(&mut self, part: Part, text: &'a str) -> &'a str {
        let (skip, at) = match part {
            Part::Content => (&mut self.skip.content, &mut self.at.content),
            Part::Thinking => (&mut self.skip.thinking, &mut self.at.thinking),
            Part::ToolCall => return text,
        };
        let known = text.len().min(*skip as usize);
        // Only who claims a place that never was has part of a character.
        let skipped = text.ceil_char_boundary(known);
        *at += (skipped - known) as u32;
        *skip -= known as u32;
        &text[skipped..]
    }
}

/// Wakers to fire once the lock is gone; the usual single one needs no allocation.
struct Wakers {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    fn add(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.rest).for_each(Waker::wake);
    }
}

fn logprob_bytes(token: &TokenLogprob) -> usize {
    let bytes = token.bytes.as_ref().map_or(0, Vec::len);
    size_of::<TokenLogprob>()
        + token.token.len()
        + bytes
        + token.top_logprobs.iter().map(logprob_bytes).sum::<usize>()
}

/// About how much memory a JSON value takes, without printing it.
fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    std::mem::size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(json_bytes).sum(),
            Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + json_bytes(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}
