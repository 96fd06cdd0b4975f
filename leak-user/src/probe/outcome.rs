//! What a burst may do, and what it did.

use leak_common::counters::Counter;

use super::{calibrate::Calibration, tables::Counts};
use crate::units::Nanos;

/// A request that takes so many times as long with probes as without does not feel them …
const UNFELT: f64 = 1.1;

/// … one that takes so many times as long does. In between it counts in part: where most requests are slower by
/// less than they differ among themselves, the slowest of them hardly are.
const FELT: f64 = 1.25;

/// How much of its own work a target felt probes in that took `spent` of the time that it `worked`.
#[must_use]
pub(super) fn felt(spent: Nanos, worked: Nanos) -> Nanos {
    let own = worked.0.saturating_sub(spent.0) as f64;
    let slower = worked.0 as f64 / own.max(1.0);
    Nanos((own * ((slower - UNFELT) / (FELT - UNFELT)).clamp(0.0, 1.0)) as u64)
}

/// What a burst may do.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How much of the target's time it may spend while the gate is open.
    pub limit: Nanos,
    /// How much of its own work the target may do meanwhile that is felt ([`Outcome::felt`]).
    pub felt: Nanos,
    /// How long the gate is open at most.
    pub longest: Nanos,
    /// What a hit costs the target beside the program's own time.
    pub costs: Calibration,
    /// Hits passed over before recording begins.
    pub skip: u64,
    /// pymalloc's size classes that probes on its functions record: see [`leak_common::config::Gate::classes`].
    pub classes: u64,
    /// Of the blocks that they see freed, how many are told: see [`leak_common::config::Gate::told`].
    pub told: u64,
    /// Have the kernel note what survivors hold when it closes the gate.
    pub note_content: bool,
}

/// How a burst went.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Its number, from 1.
    pub burst: u64,
    /// When the gate was opened and closed.
    pub opened: Nanos,
    /// See `opened`.
    pub closed: Nanos,
    /// What the programs say they spent, trap and run, while the gate was open.
    pub spent: Nanos,
    /// The processor time that the target took meanwhile, probes and all.
    pub worked: Nanos,
    /// What was counted since the burst before this one was closed: its late hits are in here, this
    /// one's will be in the next.
    pub counts: Counts,
    /// What hits while the gate was closed cost, of those in `counts`.
    pub closed_cost: Nanos,
    /// Time from the first attach to the gate's opening, and from its closing to the drop.
    pub attach_time: Nanos,
    /// See `attach_time`.
    pub detach_time: Nanos,
}

impl Outcome {
    /// For how long the gate was open.
    #[must_use]
    pub fn open(&self) -> Nanos {
        Nanos(self.closed.0.saturating_sub(self.opened.0))
    }

    /// What it cost the target.
    #[must_use]
    pub fn cost(&self) -> Nanos {
        Nanos(self.spent.0 + self.closed_cost.0)
    }

    /// What the target did of its own work meanwhile.
    #[must_use]
    pub fn own(&self) -> Nanos {
        Nanos(self.worked.0.saturating_sub(self.cost().0))
    }

    /// What it did of that while it felt the probes.
    #[must_use]
    pub fn felt(&self) -> Nanos {
        felt(self.cost(), Nanos(self.worked.0.max(self.cost().0)))
    }

    /// For how long it recorded, judged by the hits: those passed over before don't count.
    #[must_use]
    pub fn recorded(&self) -> Nanos {
        self.of_recorded(self.open())
    }

    fn of_recorded(&self, time: Nanos) -> Nanos {
        let hits = self.counts.get(Counter::Hits).max(1) as f64;
        Nanos((time.0 as f64 * self.open_hits() as f64 / hits) as u64)
    }

    /// Hits that were recorded.
    #[must_use]
    pub fn open_hits(&self) -> u64 {
        self.counts.get(Counter::Hits).saturating_sub(self.closed_hits())
    }

    /// Hits while the gate was closed: between the attach of the first probe and the removal of the
    /// last.
    #[must_use]
    pub fn closed_hits(&self) -> u64 {
        self.counts.get(Counter::ClosedHits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_little_slower_is_felt_a_little() {
        let of_a_thousand = |spent| felt(Nanos(spent), Nanos(1000 + spent)).0;
        assert_eq!([0, 100, 150, 250, 900].map(of_a_thousand), [0, 0, 333, 1000, 1000]);
        assert_eq!(felt(Nanos(5), Nanos(0)), Nanos(0));
    }
}
