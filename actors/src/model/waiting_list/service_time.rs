//! How long turns keep their slot: what waits and refusals are reckoned from.

use std::time::Duration;

/// A mean over the latest turns that also sees those which have not ended yet.
///
/// It is the time spent over the turns ended, older ones fading: so the first measurements are averaged plainly instead of
/// the first one reigning, and short and long turns in any mixture weigh what they cost. A turn that runs longer than the
/// mean is counted with the excess already, so that a stuck slot shows before it ends.
#[derive(Default)]
pub(super) struct ServiceTime {
    turns: f64,
    seconds: f64,
}

impl ServiceTime {
    /// With each turn the older ones fade by 1/32: about the last thirty decide.
    const FADING: f64 = 31.0 / 32.0;

    pub fn measured(&mut self, time: Duration) {
        self.turns = self.turns * Self::FADING + 1.0;
        self.seconds = self.seconds * Self::FADING + time.as_secs_f64();
    }

    /// The mean, given how long each running turn has run; `None` before the first measurement.
    pub fn mean(&self, running: impl Iterator<Item = Duration>) -> Option<Duration> {
        if self.turns == 0.0 {
            return None;
        }
        let mean = self.seconds / self.turns;
        let excess: f64 = running.map(|age| (age.as_secs_f64() - mean).max(0.0)).sum();
        Some(Duration::try_from_secs_f64(mean + excess / self.turns).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::iter::empty;

    use super::*;

    fn seconds(service: &ServiceTime) -> f64 {
        service.mean(empty()).unwrap().as_secs_f64()
    }

    fn measured(times: impl IntoIterator<Item = f64>) -> ServiceTime {
        let mut service = ServiceTime::default();
        times.into_iter().for_each(|time| service.measured(Duration::from_secs_f64(time)));
        service
    }

    #[test]
    fn nothing_is_known_before_the_first_measurement() {
        assert_eq!(ServiceTime::default().mean([Duration::from_secs(60)].into_iter()), None);
    }

    #[test]
    fn the_first_turns_are_averaged_plainly() {
        assert!((seconds(&measured([60.0])) - 60.0).abs() < 1e-6);
        assert!((seconds(&measured([60.0, 1.0, 1.0, 1.0])) - 15.75).abs() < 1.5);
    }

    #[test]
    fn short_and_long_turns_weigh_what_they_cost_whatever_their_order() {
        let mixed = (0..400).map(|turn| if turn % 10 == 0 { 30.0 } else { 0.1 });
        let mean = seconds(&measured(mixed));
        assert!((2.2..4.4).contains(&mean), "{mean} for a true mean of 3.09 s");
    }

    #[test]
    fn the_mean_follows_a_change_within_some_dozens_of_turns() {
        let mean = seconds(&measured([1.0; 500].into_iter().chain([10.0; 96])));
        assert!((9.0..=10.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_turn_that_does_not_end_is_counted_before_it_does_and_not_twice() {
        let mut service = measured([1.0; 100]);
        let usual = service.mean([Duration::from_millis(900)].into_iter()).unwrap();
        assert!((usual.as_secs_f64() - 1.0).abs() < 1e-6, "a turn of the usual length changes nothing");
        let age = Duration::from_secs(300);
        let before = service.mean([age].into_iter()).unwrap().as_secs_f64();
        assert!(before > 9.0, "{before}");
        service.measured(age);
        let after = seconds(&service);
        assert!((before - after).abs() < 1.0, "{before} before its end, {after} after");
    }
}
