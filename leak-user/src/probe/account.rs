//! An account that is filled by the target's own work and paid from by bursts.

use super::budget::Kind;
use crate::units::Nanos;

/// How far the target has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub now: Nanos,
    /// The processor time that it had taken then, over all of its threads.
    pub worked: Nanos,
}

/// What bursts may take, as a share of the target's own work, and what they have taken.
#[derive(Debug)]
pub(super) struct Account {
    share: f64,
    used: Nanos,
    /// What the dearest of the latest bursts of each kind has taken, forgotten slowly.
    expected: [Nanos; 2],
}

impl Account {
    /// An empty one.
    pub(super) fn new(share: f64) -> Self {
        Self { share, used: Nanos(0), expected: [Nanos(0); 2] }
    }

    /// What a burst may take that comes once in so much work.
    pub(super) fn allows(&self, work: Nanos) -> Nanos {
        Nanos((work.0 as f64 * self.share) as u64)
    }

    /// How much work allows a burst to take so much.
    pub(super) fn worth(&self, taken: Nanos) -> Nanos {
        Nanos((taken.0 as f64 / self.share) as u64)
    }

    /// What has been used.
    pub(super) fn used(&self) -> Nanos {
        self.used
    }

    /// How much work is missing of what covers the next burst of a kind, which takes at least so much.
    pub(super) fn lacks(&self, kind: Kind, least: Nanos, work: Nanos) -> Nanos {
        let next = self.expected[kind as usize].max(least);
        let needed = self.worth(Nanos(self.used.0 + next.0));
        Nanos(needed.0.saturating_sub(work.0))
    }

    /// Books what no kind has to expect again.
    pub(super) fn take(&mut self, cost: Nanos) {
        self.used.0 += cost.0;
    }

    /// Books a burst.
    pub(super) fn book(&mut self, kind: Kind, cost: Nanos) {
        self.take(cost);
        let expected = &mut self.expected[kind as usize];
        *expected = cost.max(Nanos(expected.0 - expected.0 / 4));
    }

    /// From now on each burst is expected to take so much at least.
    pub(super) fn expect(&mut self, cost: Nanos) {
        self.expected = self.expected.map(|known| known.max(cost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_waits_until_the_work_covers_the_dearest_of_late() {
        let mut account = Account::new(0.01);
        assert_eq!(account.lacks(Kind::Malloc, Nanos(5), Nanos(500)), Nanos(0));
        assert_eq!(account.lacks(Kind::Malloc, Nanos(5), Nanos(400)), Nanos(100));
        account.book(Kind::Malloc, Nanos(8));
        account.book(Kind::Malloc, Nanos(4));
        // 12 used, and 8 less a quarter expected.
        assert_eq!(account.lacks(Kind::Malloc, Nanos(1), Nanos(1_000)), Nanos(800));
        assert_eq!(account.lacks(Kind::Pymalloc, Nanos(1), Nanos(1_000)), Nanos(300));
        assert_eq!((account.used(), account.allows(Nanos(1_000))), (Nanos(12), Nanos(10)));
    }
}
