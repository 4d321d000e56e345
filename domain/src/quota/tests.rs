use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn quota() -> impl Strategy<Value = Quota> {
    // Periods that are no multiple of the permits, so that a lost fraction would show.
    (1u32..5_000, 1u64..120_000_000, 1u32..200).prop_map(|(permits, period, burst)| Quota {
        permits,
        period: Duration::from_micros(period),
        burst,
    })
}

/// Gaps between calls, from nothing to several bursts.
fn schedule() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let gap = prop_oneof![Just(0), 0u64..50, 0u64..50_000, 0u64..30_000_000];
    prop::collection::vec((gap, 1u32..8), 1..200)
}

/// A turn whose length is known when it is over.
#[derive(Debug, Clone)]
struct Turn {
    gap: u64,
    reserve: u32,
    spent: u32,
    /// How many turns are over after it began.
    settles: usize,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let gap = prop_oneof![Just(0), 0u64..50, 0u64..50_000, 0u64..30_000_000];
    let turn = (gap, 1u32..100, 0u32..300, 0usize..4);
    prop::collection::vec(
        turn.prop_map(|(gap, reserve, spent, settles)| Turn { gap, reserve, spent, settles }),
        1..100,
    )
}

fn assert_holds_and_owes_at_most_a_burst(
    quota: &Quota,
    mut bucket: Bucket,
    now: Micros,
) -> Result<(), TestCaseError> {
    let capacity = quota.period.as_micros() * u128::from(quota.burst);
    let most = (2 * capacity).div_ceil(u128::from(quota.permits));
    prop_assert!(peek(quota, bucket, now, quota.burst).retry_after.as_micros() <= most);
    if quota.take(&mut bucket, now, quota.burst).allowed {
        prop_assert!(!quota.take(&mut bucket, now, 1).allowed, "it was fuller than full");
    }
    Ok(())
}

/// What spending would answer; spends nothing.
fn peek(quota: &Quota, mut bucket: Bucket, now: Micros, cost: u32) -> Verdict {
    quota.take(&mut bucket, now, cost)
}

proptest! {
    #[test]
    fn c1_any_window_admits_at_most_the_burst_plus_what_flowed_back(
        quota in quota(), schedule in schedule(), origin in 0u64..u64::MAX / 2,
    ) {
        let mut bucket = Bucket::default();
        let mut now = origin;
        let mut admitted = Vec::new();
        for (gap, cost) in schedule {
            now += gap;
            if quota.take(&mut bucket, Micros(now), cost).allowed {
                admitted.push((now, cost));
            }
        }
        let permit = quota.period.as_micros();
        for (first, &(opens, _)) in admitted.iter().enumerate() {
            let mut sum = 0u128;
            for &(closes, cost) in &admitted[first..] {
                sum += u128::from(cost);
                let flowed_back = u128::from(closes - opens) * u128::from(quota.permits);
                prop_assert!(sum * permit <= u128::from(quota.burst) * permit + flowed_back);
            }
        }
    }

    #[test]
    fn c1_a_caller_paced_at_the_rate_is_never_refused(quota in quota(), origin in 0u64..u64::MAX / 2) {
        let mut bucket = Bucket::default();
        // The burst is gone: from here on only the rate carries the caller.
        prop_assert!(quota.take(&mut bucket, Micros(origin), quota.burst).allowed);
        let period = u64::try_from(quota.period.as_micros()).unwrap();
        let gap = period.div_ceil(u64::from(quota.permits));
        for call in 1..=500 {
            prop_assert!(quota.take(&mut bucket, Micros(origin + call * gap), 1).allowed, "call {call}");
        }
    }

    #[test]
    fn c1_rounding_a_pace_to_whole_microseconds_adds_up_to_nothing(quota in quota(), origin in 0u64..u64::MAX / 2) {
        let period = u64::try_from(quota.period.as_micros()).unwrap();
        // The burst has to hide one microsecond of rounding; the fractions themselves must not pile up.
        prop_assume!(u64::from(quota.burst - 1) * period >= u64::from(quota.permits));
        let mut bucket = Bucket::default();
        prop_assert!(quota.take(&mut bucket, Micros(origin), quota.burst).allowed);
        for call in 1..=500 {
            let due = (call * period).div_ceil(u64::from(quota.permits));
            prop_assert!(quota.take(&mut bucket, Micros(origin + due), 1).allowed, "call {call}");
        }
    }

    #[test]
    fn c8_retry_after_is_exact_to_the_microsecond(quota in quota(), schedule in schedule(), cost in 1u32..8) {
        prop_assume!(cost <= quota.burst);
        let mut bucket = Bucket::default();
        let mut now = 0;
        for (gap, cost) in schedule {
            now += gap;
            quota.take(&mut bucket, Micros(now), cost);
        }
        let refused = loop {
            let verdict = quota.take(&mut bucket, Micros(now), cost);
            if !verdict.allowed {
                break verdict;
            }
        };
        prop_assert!(refused.remaining < cost);
        let wait = u64::try_from(refused.retry_after.as_micros()).unwrap();
        prop_assert!(wait > 0);
        prop_assert!(!peek(&quota, bucket, Micros(now + wait - 1), cost).allowed);
        prop_assert!(peek(&quota, bucket, Micros(now + wait), cost).allowed);
    }

    #[test]
    fn reset_after_is_exact_and_remaining_is_what_can_be_spent(quota in quota(), schedule in schedule()) {
        let mut bucket = Bucket::default();
        let mut now = 0;
        for (gap, cost) in schedule {
            now += gap;
            let verdict = quota.take(&mut bucket, Micros(now), cost);
            let wait = u64::try_from(verdict.reset_after.as_micros()).unwrap();
            prop_assert!(quota.is_full(&bucket, Micros(now + wait)));
            prop_assert!(wait == 0 || !quota.is_full(&bucket, Micros(now + wait - 1)));
            prop_assert!(verdict.remaining == 0 || peek(&quota, bucket, Micros(now), verdict.remaining).allowed);
            prop_assert!(!peek(&quota, bucket, Micros(now), verdict.remaining + 1).allowed);
        }
    }

    #[test]
    fn c6_any_window_reserves_at_most_the_burst_plus_what_flowed_back_and_what_was_given_back(
        quota in quota(), turns in turns(), origin in 0u64..u64::MAX / 2,
    ) {
        let (permit, burst) = (i128::try_from(quota.period.as_micros()).unwrap(), i128::from(quota.burst));
        let mut bucket = Bucket::default();
        let mut now = origin;
        let mut open = Vec::new();
        // What was reserved and, below nothing, given back. What was overrun only makes later turns wait.
        let mut ledger: Vec<(u64, i128)> = Vec::new();
        for Turn { gap, reserve, spent, settles } in turns {
            now += gap;
            let reserve = reserve.min(quota.burst);
            if quota.take(&mut bucket, Micros(now), reserve).allowed {
                ledger.push((now, reserve.into()));
                open.push((reserve, spent.min(2 * quota.burst)));
            }
            for _ in 0..settles.min(open.len()) {
                let (reserve, spent) = open.swap_remove(now as usize % open.len());
                quota.settle(&mut bucket, Micros(now), reserve, spent);
                ledger.push((now, (i128::from(spent) - i128::from(reserve)).min(0)));
                assert_holds_and_owes_at_most_a_burst(&quota, bucket, Micros(now))?;
            }
        }
        for (first, &(opens, _)) in ledger.iter().enumerate() {
            let mut sum = 0;
            for &(closes, amount) in &ledger[first..] {
                sum += amount;
                let flowed_back = i128::from(closes - opens) * i128::from(quota.permits);
                prop_assert!(sum * permit <= burst * permit + flowed_back);
            }
        }
    }

    #[test]
    fn c6_turns_one_after_another_spend_at_most_the_budget_and_one_overrun(
        quota in quota(), turns in turns(), origin in 0u64..u64::MAX / 2,
    ) {
        let permit = quota.period.as_micros();
        let mut bucket = Bucket::default();
        let mut now = origin;
        let mut spendings = Vec::new();
        for Turn { gap, reserve, spent, settles } in turns {
            now += gap;
            let reserve = reserve.min(quota.burst);
            if quota.take(&mut bucket, Micros(now), reserve).allowed {
                let spent = spent.min(reserve + quota.burst);
                spendings.push((now, spent, spent.saturating_sub(reserve)));
                // Some end at once, some when part of the reserve or all of it has flowed back.
                now += settles as u64 * gap / 2;
                quota.settle(&mut bucket, Micros(now), reserve, spent);
            }
        }
        for (first, &(opens, ..)) in spendings.iter().enumerate() {
            let mut sum = 0u128;
            for &(closes, spent, overrun) in &spendings[first..] {
                sum += u128::from(spent);
                let flowed_back = u128::from(closes - opens) * u128::from(quota.permits);
                let allowed = u128::from(quota.burst) + u128::from(overrun);
                prop_assert!(sum * permit <= allowed * permit + flowed_back);
            }
        }
    }

    #[test]
    fn c6_a_reserve_given_back_at_once_was_never_taken(
        quota in quota(), schedule in schedule(), reserve in 0u32..200,
    ) {
        let mut bucket = Bucket::default();
        let mut now = 0;
        for (gap, cost) in schedule {
            now += gap;
            quota.take(&mut bucket, Micros(now), cost);
        }
        let before = peek(&quota, bucket, Micros(now), 0);
        if quota.take(&mut bucket, Micros(now), reserve).allowed {
            quota.settle(&mut bucket, Micros(now), reserve, 0);
        }
        prop_assert_eq!(peek(&quota, bucket, Micros(now), 0), before);
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out_and_forgives_at_most_the_step(
        quota in quota(), origin in 1u64..1 << 50, step in 1u64..1 << 40,
    ) {
        let mut bucket = Bucket::default();
        prop_assert!(quota.take(&mut bucket, Micros(origin), quota.burst).allowed);
        let back = origin.saturating_sub(step);
        let refused = quota.take(&mut bucket, Micros(back), quota.burst);
        prop_assert!(!refused.allowed);
        // No worse than the deepest debt, even if the clock never catches up.
        let wait = u64::try_from(refused.retry_after.as_micros()).unwrap();
        let debt = 2 * quota.period.as_micros() * u128::from(quota.burst);
        let refill = debt.div_ceil(u128::from(quota.permits));
        prop_assert!(u128::from(wait) <= refill);
        prop_assert!(peek(&quota, bucket, Micros(back + wait), quota.burst).allowed);
        // And when it does catch up, only what the step spans has flowed back.
        let again = peek(&quota, bucket, Micros(origin), 1);
        let forgiven = u128::from(origin - back) * u128::from(quota.permits) / quota.period.as_micros();
        prop_assert!(u128::from(again.remaining) <= forgiven);
    }
}

#[test]
fn c6_a_bucket_that_owes_refuses_everything_until_it_owes_no_more() {
    let quota = Quota { permits: 60, period: MINUTE, burst: 10 };
    let mut bucket = Bucket::default();
    let second = |second: u64| Micros(second * 1_000_000);
    assert!(quota.take(&mut bucket, second(0), 10).allowed);
    quota.settle(&mut bucket, second(0), 10, 14);
    let refused = quota.take(&mut bucket, second(0), 0);
    assert_eq!((refused.allowed, refused.remaining), (false, 0));
    assert_eq!((refused.retry_after.as_secs(), refused.reset_after.as_secs()), (4, 14));
    assert_eq!(quota.take(&mut bucket, second(1), 2).retry_after.as_secs(), 5);
    assert!(quota.take(&mut bucket, second(6), 2).allowed);
    // The rest of a debt beyond one burst is forgiven.
    quota.settle(&mut bucket, second(6), 2, u32::MAX);
    assert_eq!(quota.take(&mut bucket, second(6), 1).retry_after.as_secs(), 11);
}

#[test]
fn a_cost_above_the_burst_is_refused_for_ever_and_costs_nothing() {
    let quota = Quota { permits: 60, period: MINUTE, burst: 5 };
    let mut bucket = Bucket::default();
    let verdict = quota.take(&mut bucket, Micros(7), 6);
    assert_eq!((verdict.allowed, verdict.retry_after, verdict.remaining), (false, NEVER, 5));
    assert!(quota.take(&mut bucket, Micros(7), 5).allowed);
    assert_ne!(quota.take(&mut bucket, Micros(7), 5).retry_after, NEVER);
}

#[test]
fn a_refusal_in_a_row_of_refusals_costs_nothing() {
    let quota = Quota { permits: 60, period: MINUTE, burst: 2 };
    let mut bucket = Bucket::default();
    assert!(quota.take(&mut bucket, Micros(0), 2).allowed);
    for now in 0..1_000 {
        assert!(!quota.take(&mut bucket, Micros(now * 1_000), 1).allowed);
    }
    assert!(quota.take(&mut bucket, Micros(1_000_000), 1).allowed);
}

#[test]
fn the_fraction_of_a_permit_survives_frequent_calls() {
    // Seven per second is 142 857.142… µs each: truncating every refill would lose calls within seconds.
    let quota = Quota { permits: 7, period: Duration::from_secs(1), burst: 1 };
    let mut bucket = Bucket::default();
    let admitted = (0..600_000).filter(|tick| quota.take(&mut bucket, Micros(tick * 100), 1).allowed).count();
    // A minute at seven per second, on a grid of 100 µs that delays each call by up to one step.
    assert!((419..=421).contains(&admitted), "{admitted}");
}

#[test]
fn the_largest_numbers_neither_overflow_nor_admit_too_much() {
    let quota = Quota { permits: u32::MAX, period: Duration::MAX, burst: u32::MAX };
    let mut bucket = Bucket::default();
    let end = Micros(u64::MAX);
    assert!(quota.take(&mut bucket, end, u32::MAX).allowed);
    let refused = quota.take(&mut bucket, end, u32::MAX);
    assert!(!refused.allowed && refused.remaining == 0 && refused.retry_after == NEVER);
    quota.settle(&mut bucket, end, 0, u32::MAX);
    quota.settle(&mut bucket, end, 0, u32::MAX);
    let deepest = quota.take(&mut bucket, end, u32::MAX);
    assert!(!deepest.allowed && deepest.remaining == 0 && deepest.retry_after == NEVER);
    quota.settle(&mut bucket, end, u32::MAX, 0);
    quota.settle(&mut bucket, end, u32::MAX, 0);
    assert!(quota.take(&mut bucket, end, u32::MAX).allowed);
}

#[test]
fn a_quota_without_permits_never_refills_and_one_without_a_period_always_does() {
    let no_permits = Quota { permits: 0, period: MINUTE, burst: 1 };
    let mut bucket = Bucket::default();
    assert!(no_permits.take(&mut bucket, Micros(0), 1).allowed);
    let refused = no_permits.take(&mut bucket, Micros(u64::MAX), 1);
    assert_eq!((refused.allowed, refused.retry_after, refused.reset_after), (false, NEVER, NEVER));

    let no_period = Quota { permits: 1, period: Duration::ZERO, burst: 3 };
    let mut bucket = Bucket::default();
    for _ in 0..10 {
        let verdict = no_period.take(&mut bucket, Micros(0), 3);
        assert!(verdict.allowed && verdict.remaining == 3);
    }
    let refused = no_period.take(&mut bucket, Micros(0), 4);
    assert_eq!((refused.allowed, refused.retry_after), (false, NEVER), "the burst still bounds one call");
}
