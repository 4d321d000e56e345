//! When requests come and who sends them, drawn from a seed: the same seed is the same load.

use std::time::Duration;

use crate::harness::Random;

/// When each of `rate` requests a second is due within `span`: a Poisson process of which only the count is no chance, so
/// that callers come in bursts as strangers do, and yet exactly so many.
pub(super) fn arrivals(random: &mut Random, rate: f64, span: Duration) -> Vec<Duration> {
    let count = (rate * span.as_secs_f64()).round() as usize;
    let mut due: Vec<_> = (0..count).map(|_| span.mul_f64(random.share())).collect();
    due.sort();
    due
}

#[test]
fn arrivals_are_as_many_as_asked_for_in_order_and_the_same_for_the_same_seed() {
    let draw = |seed| arrivals(&mut Random::new(seed), 50.0, Duration::from_secs(4));
    let due = draw(7);
    assert_eq!(due.len(), 200);
    assert!(due.is_sorted() && due.iter().all(|at| *at < Duration::from_secs(4)));
    assert_eq!(due, draw(7));
    assert_ne!(due, draw(8));
    // Neither all in one half nor evenly spaced: gaps of an exponential distribution are longer than their mean in e^-1 of
    // the cases, and longer than twice it in e^-2.
    let gaps = due.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 50.0);
    let (long, longer) =
        (gaps.clone().filter(|gap| *gap > 1.0).count(), gaps.filter(|gap| *gap > 2.0).count());
    assert!((50..100).contains(&long) && (10..50).contains(&longer), "{long} {longer}");
}
