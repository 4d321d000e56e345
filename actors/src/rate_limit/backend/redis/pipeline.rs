//! One shard's questions on their way to Redis: what waits goes as one batch, and is answered here if that takes too long.

use std::{sync::Arc, time::Duration};

use domain::{guessing::Rule, quota::Quota};
use prometheus_client::metrics::counter::Counter;
use redis::{Cmd, Value};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout_at},
};

use super::{
    link::{Failure, Link, Live},
    scripts::{self, Scripts},
};
use crate::rate_limit::{
    Scope,
    backend::{Backend as _, memory::Memory},
    key::Charges,
    message::{LookEnd, RateLimitMessage, Taken},
    metrics::RedisMetrics,
    turn::Kept,
};
use crate::trace::{Span, names};

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
    /// How long a turn counts as running that nobody says so of any more.
    pub stream_lease: Duration,
    pub metrics: RedisMetrics,
    pub lost_settlements: Counter,
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
            if is_kept_here(&question) {
                self.fallback.ask(question);
                continue;
            }
            match self.command(&live, &question) {
                Some(command) => {
                    until.get_or_insert(deadline);
                    commands.push(command);
                    let span = question.carrier().call(question.span_name());
                    asked.push((question, span));
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
        let batch_size = asked.len();
        let ended = |span: Span, is_answered: bool| {
            span.tell(names::DB_SYSTEM, "redis");
            span.tell(names::DB_BATCH_SIZE, batch_size as i64);
            if !is_answered {
                span.fail("unanswered");
            }
        };
        match replies {
            Ok(replies) => {
                for ((question, span), reply) in asked.into_iter().zip(replies) {
                    ended(span, true);
                    self.pass_on(&live, question, reply);
                }
            }
            Err(failure) => {
                self.link.failed(&live, &failure);
                for (question, span) in asked {
                    ended(span, false);
                    self.fall_back(question);
                }
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
            RateLimitMessage::Take { charges, mut reserve, answer } => {
                match scripts::decision(&charges, reply) {
                    Some(decision) => {
                        if decision.verdict.allowed {
                            reserve.hold(scripts::holds(&charges));
                        }
                        answer.send(Taken { decision, reserve });
                    }
                    None => self.fall_back(RateLimitMessage::Take { charges, reserve, answer }),
                }
            }
            RateLimitMessage::Settle { .. } => {}
            RateLimitMessage::Guess { account, network, is_known, answer } => match scripts::judgement(reply)
            {
                Some(judged) => answer.send(judged.into()),
                None => self.fall_back(RateLimitMessage::Guess { account, network, is_known, answer }),
            },
            // What was counted here while the server was away is over as well.
            RateLimitMessage::Looked { end: LookEnd::Right, .. } => self.fallback.ask(question),
            RateLimitMessage::Looked { .. } => {}
            RateLimitMessage::Lease { user, turn, cap, answer } => match scripts::is_granted(reply) {
                Some(is_granted) => {
                    if is_granted {
                        self.fallback.renew(user, &[turn]);
                    }
                    answer.send(is_granted);
                }
                None => self.fall_back(RateLimitMessage::Lease { user, turn, cap, answer }),
            },
            // What runs is known here as well, for when the server is away.
            RateLimitMessage::Release { .. } | RateLimitMessage::Renew { .. } => self.fallback.ask(question),
        }
    }

    fn fall_back(&mut self, mut question: RateLimitMessage) {
        if let RateLimitMessage::Settle { .. } = question {
            if !is_kept_here(&question) {
                self.lost_settlements.inc();
                return;
            }
            return self.fallback.ask(question);
        }
        self.metrics.fallbacks.inc();
        match &mut question {
            RateLimitMessage::Take { charges, .. } => share(charges, self.instances),
            RateLimitMessage::Lease { cap, .. } => *cap = (*cap / self.instances).max(1),
            _ => {}
        }
        self.fallback.ask(question);
    }

    fn command(&self, live: &Live, question: &RateLimitMessage) -> Option<Cmd> {
        Some(match question {
            RateLimitMessage::Take { charges, .. } => live.scripts.take(charges)?,
            RateLimitMessage::Settle { payer, holds, spent, .. } => {
                live.scripts.settle(*payer, holds, *spent)?
            }
            RateLimitMessage::Guess { account, network, is_known, .. } => {
                live.scripts.guess(&Rule::DEFAULT, account, *network, *is_known)
            }
            RateLimitMessage::Looked { account, network, end, .. } => {
                live.scripts.looked(account, *network, *end)
            }
            RateLimitMessage::Lease { user, turn, cap, .. } => {
                live.scripts.lease(*user, *turn, *cap, self.stream_lease)
            }
            RateLimitMessage::Release { user, turn, .. } => Scripts::release(*user, *turn),
            RateLimitMessage::Renew { user, turns, .. } => {
                live.scripts.renew(*user, turns, self.stream_lease)
            }
        })
    }
}

/// Whether it is about what was reserved in this process, while the server was away.
fn is_kept_here(question: &RateLimitMessage) -> bool {
    let RateLimitMessage::Settle { holds, .. } = question else { return false };
    holds.iter().all(|hold| hold.kept != Kept::Server)
}

/// Leaves this instance its share of the general limits, so that all together admit no more than before. What protects
/// accounts is small, and stays whole.
fn share(charges: &mut Charges, instances: u32) {
    for charge in charges.iter_mut() {
        if !matches!(charge.scope, Scope::LogIn | Scope::SignUp) {
            let Quota { period, burst, .. } = charge.quota;
            charge.quota.period = period.saturating_mul(instances);
            charge.quota.burst = (burst / instances).max(1);
        }
    }
}
