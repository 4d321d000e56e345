//! What is said of exits and returns, in sentences that somebody understands who was woken by them: who, why, what happens
//! next, and until when.

use std::time::Duration;

use super::{
    Policy,
    exit::{Cause, Decision, Report},
};
use crate::tree::Status;

/// An exit and what follows from it.
pub(super) fn fell(report: &Report<'_>) -> String {
    let Report { path, cause, decision, backoff, restarts_in_window, status, .. } = report;
    let what = match cause {
        Cause::Killed => "was killed".to_owned(),
        Cause::Crashed(text) => format!("crashed ({text})"),
        Cause::NotStarted(text) => format!("did not start ({text})"),
        Cause::Stopped(Some(reason)) => format!("stopped ({reason})"),
        Cause::Stopped(None) => "stopped by itself".to_owned(),
        Cause::Hung(how) => format!("was {how}"),
    };
    let policy = Policy::default();
    match decision {
        // Whoever asked it to stop knows whether it comes back.
        Decision::Stop if matches!(cause, Cause::Stopped(_) | Cause::Hung(_)) => format!("{path} {what}"),
        Decision::Stop => format!("{path} {what}; it stays down"),
        Decision::Escalate => {
            format!(
                "{path} {what}, once too often: its supervisor stops all it has and leaves the rest to its own"
            )
        }
        Decision::Restart => {
            let next = format!(
                "it is started again in {}, restart {restarts_in_window} within {}",
                span(*backoff),
                span(policy.window)
            );
            if *status == Status::Degraded {
                let (most, healthy) = (policy.max_restarts, span(policy.healthy_after));
                format!(
                    "{path} {what}; {next}, where {most} are bearable: who needs it gets 503 until it has run for {healthy}"
                )
            } else {
                format!("{path} {what}; {next}")
            }
        }
    }
}

/// It runs again.
pub(super) fn returned(path: &str, after: Duration, status: Status) -> String {
    let after = span(after);
    if status == Status::Degraded {
        let healthy = span(Policy::default().healthy_after);
        format!("{path} is back after {after}; who needs it gets 503 until it has run for {healthy}")
    } else {
        format!("{path} is back after {after}")
    }
}

/// It has proved healthy.
pub(super) fn recovered(path: &str) -> String {
    let healthy = span(Policy::default().healthy_after);
    format!("{path} has run for {healthy} and is well again; nobody is refused because of it any more")
}

fn span(span: Duration) -> String {
    match span.as_millis() {
        0 => "no time".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        1_000..10_000 if span.subsec_millis() >= 100 => format!("{:.1} s", span.as_secs_f64()),
        _ => format!("{} s", span.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Kind;

    fn report(cause: Cause, decision: Decision, status: Status, restarts: usize) -> Report<'static> {
        Report {
            path: "db_sup/writer-0",
            kind: Kind::Leaf,
            actor_id: None,
            cause,
            decision,
            status,
            backoff: Duration::from_millis(3_200),
            restarts_in_window: restarts,
        }
    }

    #[test]
    fn a_fall_is_told_with_its_cause_and_what_follows() {
        let restart = report(Cause::Killed, Decision::Restart, Status::Restarting, 2);
        assert_eq!(
            fell(&restart),
            "db_sup/writer-0 was killed; it is started again in 3.2 s, restart 2 within 60 s"
        );
        let too_often =
            report(Cause::Crashed("panicked: boom".into()), Decision::Restart, Status::Degraded, 6);
        assert_eq!(
            fell(&too_often),
            "db_sup/writer-0 crashed (panicked: boom); it is started again in 3.2 s, restart 6 within 60 s, where 5 are \
             bearable: who needs it gets 503 until it has run for 30 s"
        );
        let gives_up = fell(&report(Cause::NotStarted("no".into()), Decision::Escalate, Status::Stopped, 6));
        assert!(gives_up.contains("did not start (no), once too often"), "{gives_up}");
    }

    #[test]
    fn a_return_tells_how_long_it_took_and_whether_it_is_trusted_yet() {
        let after = Duration::from_millis(104);
        assert_eq!(returned("ops/actor", after, Status::Running), "ops/actor is back after 104 ms");
        let degraded = returned("ops/actor", Duration::from_secs(10), Status::Degraded);
        assert_eq!(degraded, "ops/actor is back after 10 s; who needs it gets 503 until it has run for 30 s");
    }
}
