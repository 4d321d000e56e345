//! Streams of stamped tokens at a steady pace: how long a token is on its way, and what it costs.
//!
//! The fake server writes its send time into each token; both ends read the same clock.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use memchr::memmem::Finder;
use support::{client::Connection, stats::percentile};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{ground::System, request::Request};

/// A stamp is `t=`, nineteen digits until the year 2286, and a blank.
const DIGITS: usize = 19;
const STAMP_BYTES: usize = 2 + DIGITS + 1;
/// Streams begin one after the other, so that their tokens do not come all at once.
const STAGGER: Duration = Duration::from_micros(1_500);
/// From the last request to the window: every stream has begun.
const LEAD: Duration = Duration::from_millis(200);

pub struct Window {
    pub p50_us: f64,
    pub p99_us: f64,
    pub tokens_per_second: f64,
    pub cpu_us_per_token: f64,
}

/// From the first request to the window.
fn lead(streams: u32) -> Duration {
    STAGGER * streams + LEAD
}

/// How long a stream must last to be open throughout a window of this length.
pub fn stream_length(streams: u32, window: Duration) -> Duration {
    lead(streams) + window
}

/// Opens `streams` streams and measures the tokens that arrive within `window`.
pub async fn measure(system: &System, request: &Request, streams: u32, window: Duration) -> Result<Window> {
    let arrivals = Arrivals::default();
    let open = try_join_all((0..streams).map(|_| Connection::open(system.addr))).await?;
    let begin = Instant::now();
    let each = (0..streams).zip(open).map(async |(at, mut connection)| {
        sleep_until(begin + STAGGER * at).await;
        let mut scanner = Scanner::default();
        request.send(&mut connection, |piece| scanner.scan(piece, |sent| arrivals.note(sent))).await?;
        // Whatever the coalescing, nothing may be lost.
        ensure!(scanner.found == request.tokens, "{} of {} tokens came", scanner.found, request.tokens);
        Ok(())
    });
    let watch = async {
        sleep_until(begin + lead(streams)).await;
        let meter = system.meter()?;
        arrivals.begin();
        let opened = Instant::now();
        sleep(window).await;
        let mut transits_us = arrivals.end();
        let (seconds, cpu_us) = (opened.elapsed().as_secs_f64(), meter.micros()?);
        transits_us.sort_by(f64::total_cmp);
        let tokens = transits_us.len() as f64;
        Ok(Window {
            p50_us: percentile(&transits_us, 0.5),
            p99_us: percentile(&transits_us, 0.99),
            tokens_per_second: tokens / seconds,
            cpu_us_per_token: cpu_us / tokens,
        })
    };
    let (window, _) = tokio::try_join!(watch, try_join_all(each))?;
    Ok(window)
}

/// The transit times of one window, in microseconds; outside of it nothing is kept.
#[derive(Default)]
struct Arrivals(RefCell<Option<Vec<f64>>>);

impl Arrivals {
    fn begin(&self) {
        self.0.replace(Some(Vec::new()));
    }

    fn end(&self) -> Vec<f64> {
        self.0.take().unwrap_or_default()
    }

    fn note(&self, sent: Duration) {
        if let Some(transits) = &mut *self.0.borrow_mut() {
            transits.push(now().saturating_sub(sent).as_secs_f64() * 1e6);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with a stamp of another process")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Finds stamps in a body that comes in pieces.
struct Scanner {
    finder: Finder<'static>,
    /// What may be the beginning of a stamp.
    rest: Vec<u8>,
    found: u64,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { finder: Finder::new("t="), rest: Vec::new(), found: 0 }
    }
}

impl Scanner {
    fn scan(&mut self, piece: &[u8], mut take: impl FnMut(Duration)) {
        self.rest.extend_from_slice(piece);
        let mut from = 0;
        while let Some(at) = self.finder.find(&self.rest[from..]).map(|at| from + at) {
            if at + STAMP_BYTES > self.rest.len() {
                from = at;
                break;
            }
            let digits = std::str::from_utf8(&self.rest[at + 2..at + 2 + DIGITS]).ok();
            match digits.and_then(|digits| digits.parse().ok()) {
                Some(nanos) => {
                    self.found += 1;
                    take(Duration::from_nanos(nanos));
                    from = at + STAMP_BYTES;
                }
                None => from = at + 2,
            }
        }
        // Without a beginning, only the last byte can be one.
        if !self.rest[from..].starts_with(b"t=") {
            from = from.max(self.rest.len().saturating_sub(1));
        }
        self.rest.drain(..from);
    }
}
