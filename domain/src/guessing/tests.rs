use proptest::prelude::*;

use super::*;

const RULE: Rule = Rule::DEFAULT;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

fn network(number: u16) -> Network {
    Network::of(std::net::Ipv4Addr::from_bits(u32::from(number) << 8).into())
}

fn stranger(guesses: &mut Guesses, now: u64, from: u16) -> Result<(), Wait> {
    RULE.admit(guesses, Micros(now), network(from), false)
}

/// Fails as often, each time as early as it may, and tells when that was done.
fn fail(guesses: &mut Guesses, times: u32, from: impl Fn(u32) -> u16) -> u64 {
    let mut now = HOUR;
    for time in 0..times {
        while let Err(wait) = stranger(guesses, now, from(time)) {
            now += u64::try_from(wait.retry_after.as_micros()).unwrap();
        }
    }
    now
}

/// Gaps between tries from nothing to a quarter of an hour, by one of a few networks, known or not.
fn schedule() -> impl Strategy<Value = Vec<(u64, u16, bool)>> {
    let gap = prop_oneof![Just(0), 0..10 * SECOND, 0..900 * SECOND];
    prop::collection::vec((gap, 0u16..40, prop::bool::weighted(0.1)), 1..400)
}

#[test]
fn a06_ten_failures_are_free_and_then_the_wait_doubles_to_fifteen_minutes() {
    let mut guesses = Guesses::default();
    let mut now = HOUR;
    for _ in 0..10 {
        assert_eq!(stranger(&mut guesses, now, 1), Ok(()));
    }
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        let waits = Err(Wait { retry_after: Duration::from_secs(seconds), by_account_alone: false });
        assert_eq!(stranger(&mut guesses, now, 1), waits);
        now += seconds * SECOND - 1;
        assert!(stranger(&mut guesses, now, 1).is_err());
        now += 1;
        assert_eq!(stranger(&mut guesses, now, 1), Ok(()));
    }
}

#[test]
fn a06_a_known_network_does_not_wait_for_what_strangers_did() {
    let mut guesses = Guesses::default();
    let now = fail(&mut guesses, 15, |time| u16::try_from(time).unwrap());
    let refused = stranger(&mut guesses, now, 200).unwrap_err();
    assert!(refused.by_account_alone);
    for _ in 0..10 {
        assert_eq!(RULE.admit(&mut guesses, Micros(now), network(200), true), Ok(()));
    }
    let own = RULE.admit(&mut guesses, Micros(now), network(200), true).unwrap_err();
    assert_eq!(own, Wait { retry_after: Duration::from_secs(1), by_account_alone: false });
}

#[test]
fn a06_a_besieged_account_gives_each_network_one_try_per_quarter_of_an_hour() {
    let mut guesses = Guesses::default();
    let now = fail(&mut guesses, 100, |time| u16::try_from(time % 8).unwrap());
    assert_eq!(stranger(&mut guesses, now, 50), Ok(()));
    assert_eq!(stranger(&mut guesses, now + 1, 51), Ok(()), "whatever another one did");
    let refused = stranger(&mut guesses, now + 1, 50).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(900) - Duration::from_micros(1));
    assert_eq!(stranger(&mut guesses, now + 900 * SECOND, 50), Ok(()));
}

#[test]
fn a06_strangers_beyond_the_room_are_one_network_and_a_known_one_finds_room() {
    let mut guesses = Guesses::default();
    let now = fail(&mut guesses, 100, |time| u16::try_from(time % 32).unwrap());
    assert_eq!(guesses.networks.len(), RULE.networks);
    assert_eq!(stranger(&mut guesses, now, 100), Ok(()));
    for other in 101..1_000 {
        assert!(stranger(&mut guesses, now, other).is_err());
    }
    assert_eq!(RULE.admit(&mut guesses, Micros(now), network(2_000), true), Ok(()));
    assert_eq!(guesses.networks.len(), RULE.networks);
    assert!(guesses.position(network(2_000)).is_some());
}

#[test]
fn a06_a_right_password_takes_its_networks_failures_off_the_account() {
    let mut guesses = Guesses::default();
    for from in [1, 1, 1, 2, 2] {
        stranger(&mut guesses, HOUR, from).unwrap();
    }
    RULE.right(&mut guesses, network(1));
    assert_eq!((guesses.all.count, guesses.networks.len()), (2, 1));
    RULE.undo(&mut guesses, network(2));
    assert_eq!(guesses.all.count, 1);
    RULE.undo(&mut guesses, network(2));
    RULE.undo(&mut guesses, network(3));
    assert_eq!((guesses.all.count, guesses.networks.len()), (0, 0));
}

#[test]
fn a06_a_right_password_among_those_counted_together_clears_itself_only() {
    let mut guesses = Guesses::default();
    let now = fail(&mut guesses, 34, |time| u16::try_from(time).unwrap());
    assert_eq!((guesses.all.count, guesses.others.count), (34, 2));
    RULE.right(&mut guesses, network(33));
    assert_eq!((guesses.all.count, guesses.others.count), (33, 1));
    assert!(stranger(&mut guesses, now, 33).is_err());
}

#[test]
fn a06_a_day_without_a_failure_forgets() {
    let mut guesses = Guesses::default();
    let now = fail(&mut guesses, 30, |_| 1);
    assert!(stranger(&mut guesses, now, 1).is_err());
    for _ in 0..10 {
        assert_eq!(stranger(&mut guesses, now + 24 * HOUR, 1), Ok(()));
    }
    assert_eq!(guesses.all.count, 10);
}

proptest! {
    #[test]
    fn a06_nobody_ever_waits_longer_than_a_quarter_of_an_hour(schedule in schedule(), step_back in 0..2 * HOUR) {
        let (mut guesses, mut now) = (Guesses::default(), 3 * HOUR);
        for (gap, from, is_known) in schedule {
            now += gap;
            if let Err(wait) = RULE.admit(&mut guesses, Micros(now), network(from), is_known) {
                prop_assert!(wait.retry_after <= RULE.longest_wait);
            }
            prop_assert!(guesses.networks.len() <= RULE.networks);
        }
        for from in 0..50 {
            if let Err(wait) = stranger(&mut guesses, now - step_back, from) {
                prop_assert!(wait.retry_after <= RULE.longest_wait);
            }
        }
    }

    #[test]
    fn a06_a_refused_try_counts_nothing_and_may_be_made_when_it_was_told(schedule in schedule()) {
        let (mut guesses, mut now) = (Guesses::default(), HOUR);
        for (gap, from, is_known) in schedule {
            now += gap;
            let mut again = guesses.clone();
            if let Err(wait) = RULE.admit(&mut guesses, Micros(now), network(from), is_known) {
                RULE.forget(&mut again, Micros(now));
                prop_assert_eq!(&again, &guesses);
                let then = now + u64::try_from(wait.retry_after.as_micros()).unwrap();
                prop_assert!(RULE.admit(&mut again.clone(), Micros(then - 1), network(from), is_known).is_err());
                prop_assert_eq!(RULE.admit(&mut again, Micros(then), network(from), is_known), Ok(()));
            }
        }
    }

    #[test]
    fn a06_strangers_get_ten_looks_and_then_fewer_and_fewer(schedule in schedule()) {
        let (mut guesses, mut now) = (Guesses::default(), HOUR);
        let mut looks = 0u32;
        for (gap, from, _) in schedule {
            now += gap;
            looks += u32::from(stranger(&mut guesses, now, from).is_ok());
            // Ten, one for each doubling that has passed, and one a quarter of an hour; then one per network.
            let seconds = (now - HOUR) / SECOND;
            let doublings = (seconds + 1).ilog2().min(10);
            let quarters = u32::try_from(seconds / 900).unwrap();
            let bound = 11 + doublings + quarters;
            prop_assert!(looks <= bound || looks >= RULE.besieged, "{looks} of {bound} after {seconds} s");
        }
    }

    #[test]
    fn a06_a_known_network_is_judged_as_if_it_were_alone(schedule in schedule()) {
        let (mut guesses, mut alone) = (Guesses::default(), Guesses::default());
        let mut now = HOUR;
        let home = network(1_000);
        for (gap, from, is_home) in schedule {
            now += gap;
            if is_home {
                let judged = RULE.admit(&mut guesses, Micros(now), home, true);
                prop_assert_eq!(judged, RULE.admit(&mut alone, Micros(now), home, true));
            } else {
                let _ = stranger(&mut guesses, now, from);
            }
        }
    }

    #[test]
    fn the_account_idle_or_not_is_what_its_networks_would_be_told(schedule in schedule()) {
        let (mut guesses, mut now) = (Guesses::default(), HOUR);
        for (gap, from, _) in schedule {
            now += gap;
            let _ = stranger(&mut guesses, now, from);
            if RULE.is_idle(&guesses, Micros(now)) {
                for from in 0..50 {
                    prop_assert_eq!(stranger(&mut guesses.clone(), now, from), Ok(()));
                }
            }
        }
    }
}
