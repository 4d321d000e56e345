//! Settings of the password room: what one hash costs, and how many are made at once.

use argon2::Params;

/// Length of a hash.
pub(super) const HASH_BYTES: usize = 32;

/// The parameters that OWASP calls equally strong: KiB and passes (A3).
const STRONG_ENOUGH: [(u32, u32); 3] = [(47_104, 1), (19_456, 2), (12_288, 3)];

/// Above this a stored hash is taken for damaged rather than let one row command the memory or the time of a worker, and
/// so nothing above it can be asked for.
const MOST: HashCost = HashCost { memory_kib: 65_536, passes: 8, lanes: 4 };

/// Parameters of argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

#[derive(Debug, Clone, Default)]
pub struct PasswordConfig {
    /// Concurrent hashes; `None` is one less than the cores, at least one, so that serving goes on.
    pub workers: Option<usize>,
    /// Of new hashes; weaker ones are replaced at their owners' next log-in.
    pub cost: HashCost,
}

/// OWASP's first choice: 17.6 ms on one core of the reference machine.
impl Default for HashCost {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl HashCost {
    /// What is wrong with it and how to mend that, for the operator.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !STRONG_ENOUGH.iter().any(|(memory, passes)| self.memory_kib >= *memory && self.passes >= *passes)
        {
            Some((
                "makes hashes that are weaker than OWASP's least",
                "give at least 19456 KiB and 2 passes, 47104 and 1, or 12288 and 3",
            ))
        } else if self.exceeds(MOST) || self.lanes == 0 {
            Some(("is out of bounds", "give at most 65536 KiB, 8 passes, and 1 to 4 lanes"))
        } else {
            None
        }
    }

    /// Whether a stored hash of this cost is rather damaged.
    pub(super) const fn is_absurd(self) -> bool {
        self.exceeds(MOST)
    }

    /// Whether a hash of this cost is guessed faster than one of `other`. Lanes only tell how it may be worked out.
    pub(super) const fn is_weaker_than(self, other: Self) -> bool {
        self.memory_kib < other.memory_kib || self.passes < other.passes
    }

    const fn exceeds(self, most: Self) -> bool {
        self.memory_kib > most.memory_kib || self.passes > most.passes || self.lanes > most.lanes
    }

    pub(super) const fn params(self) -> Result<Params, argon2::Error> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES))
    }
}

impl From<&Params> for HashCost {
    fn from(params: &Params) -> Self {
        Self { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_what_owasp_calls_strong_enough_is_the_least() {
        let problem = |memory_kib, passes, lanes| HashCost { memory_kib, passes, lanes }.problem();
        for (memory, passes) in [(47_104, 1), (19_456, 2), (12_288, 3), (65_536, 3), (65_536, 8)] {
            assert_eq!(problem(memory, passes, 1), None, "{memory}/{passes}");
        }
        for (memory, passes) in [(47_103, 1), (19_455, 2), (12_287, 3), (12_287, 8), (8, 1)] {
            assert!(problem(memory, passes, 1).unwrap().0.contains("OWASP"), "{memory}/{passes}");
        }
        for (memory, passes, lanes) in [(65_537, 2, 1), (19_456, 9, 1), (19_456, 2, 5), (19_456, 2, 0)] {
            assert!(
                problem(memory, passes, lanes).unwrap().0.contains("bounds"),
                "{memory}/{passes}/{lanes}"
            );
        }
        assert_eq!(HashCost::default().problem(), None);
    }
}
