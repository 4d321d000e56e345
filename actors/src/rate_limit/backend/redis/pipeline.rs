//! One shard's questions on their way to Redis: what waits goes as one batch, and is answered here if that takes too long.

use std::sync::Arc;

use domain::{guessing::Rule, quota::Quota};
use redis::{Cmd, Value};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout_at},
};

use super::{
    link::{Failure, Link, Live},
    scripts,
};
use crate::rate_limit::{
    Scope,
    backend::{Backend as _, memory::Memory},
    key::Charges,
    message::{LookEnd, RateLimitMessage},
    metrics::RedisMetrics,
};

/// Questions in one batch: it takes the server a few milliseconds at most.
const BATCH: usize = 128;

/// A question and when its asker wants the answer.
pub(super) struct Waiting {
    pub question: RateLimitMessage,
    pub until: Instant,
}

pub(super) struct Pipeline {
    /// Bounded by the permits that the questions hold.
    pub questions: UnboundedReceiver<Waiting>,
    pub link: Arc<Link>,
    pub fallback: Memory,
    /// Among how many the general limits are divided while each counts alone.
    pub instances: u32,
    pub metrics: RedisMetrics,
}

impl Pipeline {
    /// Answers until the shard is gone.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.questions.recv_many(&mut batch, BATCH).await > 0 {
            self.answer(&mut batch).await;
        }
    }

    async fn answer(&mut self, batch: &mut Vec<Waiting>) {
        let Some(live) = self.link.live() else {
            return batch.drain(..).for_each(|waiting| self.fall_back(waiting.question));
        };
        // Those the server cannot count stay behind.
        let mut asked = Vec::with_capacity(batch.len());
        let mut commands = Vec::with_capacity(batch.len());
        let mut until = None;
        for Waiting { question, until: deadline } in batch.drain(..) {
            match command(&live, &question) {
                Some(command) => {
                    until.get_or_insert(deadline);
                    commands.push(command);
                    asked.push(question);
                }
                None => self.fall_back(question),
            }
        }
        // The oldest comes first.
        let Some(until) = until else { return };
        let replies = match timeout_at(until, live.ask(&commands)).await {
            Ok(replies) => replies,
            Err(_) => Err(Failure::Late),
        };
        match replies {
            Ok(replies) => {
                for (question, reply) in asked.into_iter().zip(replies) {
                    self.pass_on(&live, question, reply);
                }
            }
            Err(failure) => {
                self.link.failed(&live, &failure);
                asked.into_iter().for_each(|question| self.fall_back(question));
            }
        }
    }

    /// Gives the server's answer to the asker, or an own one if it is none.
    fn pass_on(&mut self, live: &Arc<Live>, question: RateLimitMessage, reply: Value) {
        let reply = match reply.extract_error() {
            Ok(reply) => reply,
            Err(error) => {
                self.link.failed(live, &Failure::Redis(error));
                return self.fall_back(question);
            }
        };
        self.link.worked();
        match question {
            RateLimitMessage::Take { charges, answer } => match scripts::decision(&charges, reply) {
                Some(decision) => answer.send(decision),
                None => self.fall_back(RateLimitMessage::Take { charges, answer }),
            },
            RateLimitMessage::Guess { account, network, is_known, answer } => match scripts::judgement(reply)
            {
                Some(judged) => answer.send(judged.into()),
                None => self.fall_back(RateLimitMessage::Guess { account, network, is_known, answer }),
            },
            // What was counted here while the server was away is over as well.
            RateLimitMessage::Looked { end: LookEnd::Right, .. } => self.fallback.ask(question),
            RateLimitMessage::Looked { .. } => {}
        }
    }

    fn fall_back(&mut self, mut question: RateLimitMessage) {
        self.metrics.fallbacks.inc();
        if let RateLimitMessage::Take { charges, .. } = &mut question {
            share(charges, self.instances);
        }
        self.fallback.ask(question);
    }
}

fn command(live: &Live, question: &RateLimitMessage) -> Option<Cmd> {
    match question {
        RateLimitMessage::Take { charges, .. } => live.scripts.take(charges),
        RateLimitMessage::Guess { account, network, is_known, .. } => {
            Some(live.scripts.guess(&Rule::DEFAULT, account, *network, *is_known))
        }
        RateLimitMessage::Looked { account, network, end, .. } => {
            Some(live.scripts.looked(account, *network, *end))
        }
    }
}

/// Leaves this instance its share of the general limits, so that all together admit no more than before. What protects
/// accounts is small, and stays whole.
fn share(charges: &mut Charges, instances: u32) {
    for charge in charges.iter_mut() {
        if matches!(charge.scope, Scope::Address | Scope::User | Scope::Key) {
            let Quota { period, burst, .. } = charge.quota;
            charge.quota.period = period.saturating_mul(instances);
            charge.quota.burst = (burst / instances).max(1);
        }
    }
}
