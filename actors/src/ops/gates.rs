//! Notices gates that begin to refuse, and those that have stopped: two pieces of news, however many are refused.

use std::collections::BTreeMap;

use crate::{
    handle::GateUse,
    tree::{Feed, NewsKind},
};

/// Looks without a refusal after which a gate counts as open again.
const QUIET_LOOKS: u32 = 10;

/// What was seen of each gate at the last look.
pub(super) struct GateWatch(BTreeMap<&'static str, Seen>);

#[derive(Default)]
struct Seen {
    refused: u64,
    spell: Option<Spell>,
}

/// A time in which a gate refuses.
struct Spell {
    /// What it had refused before.
    before: u64,
    quiet_looks: u32,
}

impl GateWatch {
    /// What was refused before is no news.
    pub(super) fn new(gates: &[GateUse]) -> Self {
        let seen = |gate: &GateUse| (gate.name, Seen { refused: gate.refused, spell: None });
        Self(gates.iter().map(seen).collect())
    }

    pub(super) fn look(&mut self, gates: &[GateUse], news: &Feed) {
        for gate in gates {
            let seen = self.0.entry(gate.name).or_default();
            let has_refused = gate.refused > seen.refused;
            match &mut seen.spell {
                None if has_refused => {
                    seen.spell = Some(Spell { before: seen.refused, quiet_looks: 0 });
                    news.tell(
                        NewsKind::Refuses,
                        gate.name,
                        format!("gate {} refuses: all its {} places were taken", gate.name, gate.capacity),
                    );
                }
                None => {}
                Some(spell) if has_refused => spell.quiet_looks = 0,
                Some(spell) => {
                    spell.quiet_looks += 1;
                    if spell.quiet_looks >= QUIET_LOOKS {
                        let refused = gate.refused.saturating_sub(spell.before);
                        seen.spell = None;
                        news.tell(
                            NewsKind::Admits,
                            gate.name,
                            format!("gate {} refuses nobody any more; it refused {refused}", gate.name),
                        );
                    }
                }
            }
            seen.refused = gate.refused;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(refused: u64) -> [GateUse; 1] {
        [GateUse { name: "db_write", in_use: 4_096, capacity: 4_096, refused }]
    }

    #[test]
    fn a_gate_that_refuses_thousands_is_told_of_twice() {
        let (feed, mut watch) = (Feed::default(), GateWatch::new(&gate(7)));
        watch.look(&gate(7), &feed);
        assert_eq!(feed.newest(), 0);
        for refused in [9, 1_007, 1_007, 4_007] {
            watch.look(&gate(refused), &feed);
        }
        for _ in 0..QUIET_LOOKS {
            assert_eq!(feed.newest(), 1);
            watch.look(&gate(4_007), &feed);
        }
        watch.look(&gate(4_007), &feed);
        let told: Vec<_> = feed.since(0).iter().map(|news| news.told.clone()).collect();
        assert_eq!(
            told,
            [
                "gate db_write refuses: all its 4096 places were taken",
                "gate db_write refuses nobody any more; it refused 4000"
            ]
        );
    }
}
