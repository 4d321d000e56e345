use proptest::prelude::*;

use super::*;

/// So many turns in a row, all slots busy.
fn feed(gradient: &mut Gradient, first_token: Duration, turns: u32) {
    for _ in 0..turns {
        gradient.measured(first_token, gradient.limit());
    }
}

fn latency() -> impl Strategy<Value = Duration> {
    // From a cached prompt to a long one on a slow machine.
    (1u64..60_000).prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn d05_the_limit_never_leaves_its_bounds_whatever_is_measured(
        ceiling in prop_oneof![0u32..16, Just(u32::MAX)],
        turns in prop::collection::vec(
            (prop_oneof![
                Just(Duration::ZERO), Just(Duration::MAX), Just(Duration::from_nanos(1)), latency(),
            ], prop_oneof![0u32..20, Just(u32::MAX)]),
            0..400,
        ),
    ) {
        let mut gradient = Gradient::new(ceiling);
        for (first_token, running) in turns {
            gradient.measured(first_token, running);
            prop_assert!((1..=ceiling.max(1)).contains(&gradient.limit()), "{gradient:?}");
            prop_assert!(gradient.limit.is_finite(), "{gradient:?}");
        }
    }

    #[test]
    fn d05_a_steady_server_is_given_its_ceiling(ceiling in 1u32..64, latency in latency()) {
        let mut gradient = Gradient::new(ceiling);
        feed(&mut gradient, latency, 100);
        prop_assert_eq!(gradient.limit(), ceiling);
    }

    #[test]
    fn d05_the_limit_falls_when_answers_begin_twice_as_late_and_recovers_when_that_is_over(
        ceiling in 2u32..64, latency in latency(),
    ) {
        let mut gradient = Gradient::new(ceiling);
        feed(&mut gradient, latency, 100);
        let mut least = ceiling;
        for _ in 0..20 {
            feed(&mut gradient, 2 * latency, 1);
            least = least.min(gradient.limit());
        }
        prop_assert!(least < ceiling, "{gradient:?}");
        // A tenth of a turn is won back with each measurement.
        feed(&mut gradient, latency, 20 + 10 * ceiling);
        prop_assert_eq!(gradient.limit(), ceiling);
    }

    #[test]
    fn d05_a_server_with_little_to_do_is_not_judged(ceiling in 4u32..64, latency in latency()) {
        let mut gradient = Gradient::new(ceiling);
        for _ in 0..100 {
            gradient.measured(latency, 1);
            gradient.measured(latency * 10, 1);
        }
        prop_assert_eq!(gradient.limit(), ceiling);
    }
}

#[test]
fn d05_after_a_long_overload_the_old_pace_is_soon_known_again() {
    let mut gradient = Gradient::new(8);
    let (fast, slow) = (Duration::from_millis(200), Duration::from_secs(20));
    feed(&mut gradient, fast, 100);
    feed(&mut gradient, slow, 2_000);
    feed(&mut gradient, fast, 100);
    feed(&mut gradient, slow, 10);
    assert!(gradient.limit() < 8, "what is slow again counts as slow: {gradient:?}");
}
