//! How many turns a model server should be given at once, judged by how its time to the first token moves.
//!
//! The rule is Netflix's Gradient2 (`concurrency-limits`): a server that is asked for more than it can do answers later,
//! so what it takes lately over what it takes as a rule tells whether to ask for less. The figures are chosen for the few
//! slots of a model: a limit of hundreds can afford a larger headroom and needs no faster fall.

use std::time::Duration;

/// How much slower than as a rule an answer may begin before it counts against the limit.
const TOLERANCE: f64 = 1.5;

/// However slow a server has become, one measurement asks for no less than this part of the limit.
const STEEPEST: f64 = 0.5;

/// What is tried beyond the limit while all is well, in turns.
const HEADROOM: f64 = 0.2;

/// How far one measurement moves the limit towards what it asks for.
const SMOOTHING: f64 = 0.5;

/// The weight of one measurement in what the server takes lately, and in what it takes as a rule.
const SHORT: f64 = 1.0 / 4.0;
const LONG: f64 = 1.0 / 256.0;

/// Where the rule lies so far above the latest that it tells of an overload that is over, it is let down this much faster.
const OVER: f64 = 2.0;
const LET_DOWN: f64 = 0.95;

/// Times nearer to nothing than this are taken for it: a ratio needs something below the line.
const LEAST_SECONDS: f64 = 1e-6;

/// The limit of one model: never below one, never above its ceiling.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    ceiling: u32,
    limit: f64,
    /// What the server took lately, and what it takes as a rule, in seconds.
    taken: Option<(f64, f64)>,
}

impl Gradient {
    /// Begins at the ceiling, which is what the operator set; less is for evidence to ask for.
    pub fn new(ceiling: u32) -> Self {
        let ceiling = ceiling.max(1);
        Self { ceiling, limit: f64::from(ceiling), taken: None }
    }

    /// How many turns may run at once.
    pub fn limit(&self) -> u32 {
        // In `1..=ceiling`, so nothing is lost but the fraction.
        (self.limit as u32).clamp(1, self.ceiling)
    }

    /// Takes in that a turn's first token came after `first_token`, while `running` turns ran.
    ///
    /// With less than half of the limit in use the time says nothing about the limit, only about the server.
    pub fn measured(&mut self, first_token: Duration, running: u32) {
        let sample = first_token.as_secs_f64().max(LEAST_SECONDS);
        let (short, long) = self.taken.map_or((sample, sample), |(short, long)| {
            let short = short + SHORT * (sample - short);
            let long = long + LONG * (sample - long);
            (short, if long > OVER * short { long * LET_DOWN } else { long })
        });
        self.taken = Some((short, long));
        if f64::from(running) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * long / short).clamp(STEEPEST, 1.0);
        let wanted = self.limit * gradient + HEADROOM;
        let moved = self.limit + SMOOTHING * (wanted - self.limit);
        self.limit = moved.clamp(1.0, f64::from(self.ceiling));
    }
}

#[cfg(test)]
mod tests;
