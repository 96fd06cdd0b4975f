//! An account that is filled by the target's own work and paid from by bursts. What it holds is of the last while
//! alone: a target that was idle for an hour has not saved up for the next minute.

use std::collections::VecDeque;

use super::budget::Kind;
use crate::units::Nanos;

/// The bound is kept over so much time: what is spent within as much is at most the share of the work within it.
pub(super) const EVEN: Nanos = Nanos(10_000_000_000);

/// … and of it as much as this part of the time is spent ahead at first, so that there is soon something to tell: then
/// less and less, until the account is even after that time, or at the observation's end if that is sooner.
const AHEAD: f64 = 0.5;

/// Work is counted in steps of so much time.
const STEP: Nanos = Nanos(1_000_000_000);

/// How far the target has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub now: Nanos,
    /// The processor time that it had taken then, over all of its threads.
    pub worked: Nanos,
}

/// What the target has done of its own work until a moment, since the begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// When.
    pub(super) now: Nanos,
    /// The work.
    pub(super) own: Nanos,
}

/// What there was at a moment, since the begin.
#[derive(Debug, Clone, Copy)]
struct Balance {
    at: Nanos,
    /// The work that is counted to the target.
    counted: Nanos,
    /// What was paid.
    used: Nanos,
}

/// What bursts may take, as a share of the target's own work, and what they have taken.
#[derive(Debug)]
pub(super) struct Account {
    share: f64,
    /// Cores' work that the target is taken to do at least.
    least_pace: f64,
    /// The ends of the steps before the last, from one that is as old as [`EVEN`], or the begin, on.
    course: VecDeque<Balance>,
    /// The end of the last step.
    last: Balance,
    /// The target's own work by then.
    own: Nanos,
    /// What was paid so far.
    used: Nanos,
    /// What the dearest of the latest bursts of each kind has taken, forgotten slowly.
    expected: [Nanos; 2],
}

/// What has been counted and paid in the last while.
#[derive(Debug, Clone, Copy)]
struct Lately {
    elapsed: Nanos,
    counted: Nanos,
    used: Nanos,
}

impl Account {
    /// An empty one, from a moment on.
    pub(super) fn new(share: f64, least_pace: f64, from: Nanos) -> Self {
        Self {
            share,
            least_pace,
            course: VecDeque::new(),
            last: Balance { at: from, counted: Nanos(0), used: Nanos(0) },
            own: Nanos(0),
            used: Nanos(0),
            expected: [Nanos(0); 2],
        }
    }

    /// The target has come so far; what lies too long ago is forgotten.
    pub(super) fn advance(&mut self, done: Done) {
        if done.now.0 < self.last.at.0 + STEP.0 {
            return;
        }
        let counted = self.counted(done);
        self.course.push_back(self.last);
        self.last = Balance { at: done.now, counted, used: self.used };
        self.own = done.own.max(self.own);
        while self.course.get(1).unwrap_or(&self.last).at.0 + EVEN.0 <= done.now.0 {
            self.course.pop_front();
        }
    }

    /// The work that is counted to the target since the begin.
    pub(super) fn counted(&self, done: Done) -> Nanos {
        let at_least = self.least_pace * done.now.0.saturating_sub(self.last.at.0) as f64;
        let own = done.own.0.saturating_sub(self.own.0).max(at_least as u64);
        Nanos(self.last.counted.0 + own)
    }

    fn lately(&self, done: Done) -> Lately {
        let first = self.course.front().unwrap_or(&self.last);
        Lately {
            elapsed: Nanos(done.now.0.saturating_sub(first.at.0)),
            counted: Nanos(self.counted(done).0 - first.counted.0),
            used: Nanos(self.used.0 - first.used.0),
        }
    }

    /// How many cores' work is counted to it.
    fn pace(&self, lately: Lately) -> f64 {
        (lately.counted.0 as f64 / lately.elapsed.0.max(1) as f64).max(self.least_pace)
    }

    /// What a burst may take that comes once in so much time.
    pub(super) fn allows(&self, time: Nanos, done: Done) -> Nanos {
        Nanos((time.0 as f64 * self.pace(self.lately(done)) * self.share) as u64)
    }

    /// How much work allows a burst to take so much.
    pub(super) fn worth(&self, taken: Nanos) -> Nanos {
        Nanos((taken.0 as f64 / self.share) as u64)
    }

    /// What has been used since the begin.
    pub(super) fn used(&self) -> Nanos {
        self.used
    }

    /// Does the target's work of late cover the next burst of a kind, which takes at least so much? Until there is as
    /// much of it as the bound is kept over, or the observation lasts, part of what is to come is spent ahead.
    pub(super) fn covers(&self, kind: Kind, least: Nanos, done: Done, duration: Nanos) -> bool {
        let lately = self.lately(done);
        let next = self.expected[kind as usize].max(least);
        let to_come = EVEN.min(duration).0.saturating_sub(lately.elapsed.0);
        let ahead = AHEAD * to_come as f64 * self.pace(lately);
        self.worth(Nanos(lately.used.0 + next.0)).0 <= lately.counted.0 + ahead as u64
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

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64, own: f64) -> Done {
        Done { now: Nanos(seconds * SECOND), own: Nanos((own * SECOND as f64) as u64) }
    }

    fn covers(account: &Account, kind: Kind, least_ms: u64, done: Done) -> bool {
        account.covers(kind, Nanos(least_ms * 1_000_000), done, Nanos(0))
    }

    #[test]
    fn a_burst_waits_until_the_work_covers_the_dearest_of_late() {
        let mut account = Account::new(0.01, 0.1, Nanos(0));
        assert!(covers(&account, Kind::Malloc, 5, at(1, 0.5)));
        assert!(!covers(&account, Kind::Malloc, 5, at(1, 0.4)));
        account.book(Kind::Malloc, Nanos(8_000_000));
        account.book(Kind::Malloc, Nanos(4_000_000));
        // 12 used, and 8 less a quarter expected.
        assert!(covers(&account, Kind::Malloc, 1, at(4, 1.8)));
        assert!(!covers(&account, Kind::Malloc, 1, at(4, 1.7)));
        assert!(covers(&account, Kind::Pymalloc, 1, at(4, 1.3)));
        assert_eq!(account.used(), Nanos(12_000_000));
        assert_eq!(account.allows(Nanos(2 * SECOND), at(1, 0.5)), Nanos(10_000_000));
    }

    #[test]
    fn who_hardly_works_is_taken_to_do_more() {
        let account = Account::new(0.01, 1.0, Nanos(0));
        assert_eq!(account.counted(at(1, 0.5)), Nanos(SECOND));
        assert_eq!(account.allows(Nanos(2 * SECOND), at(1, 0.5)), Nanos(20_000_000));
    }

    #[test]
    fn part_of_what_is_to_come_is_spent_ahead() {
        let account = Account::new(0.01, 1.0, Nanos(0));
        let ahead = |least_ms: u64, duration: u64| {
            account.covers(
                Kind::Malloc,
                Nanos(least_ms * 1_000_000),
                at(0, 0.0),
                Nanos(duration * SECOND),
            )
        };
        assert!(ahead(50, 100) && !ahead(51, 100) && ahead(20, 4) && !ahead(21, 4));
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut account = Account::new(0.01, 0.1, Nanos(0));
        // A minute of idleness, then all of a core: in each ten seconds, one part in a hundred of their work.
        for second in 1..=120 {
            let done = at(second, second.saturating_sub(60) as f64);
            account.advance(done);
            while covers(&account, Kind::Malloc, 5, done) {
                account.book(Kind::Malloc, Nanos(5_000_000));
            }
            let lately = account.lately(done);
            assert!(lately.used.0 as f64 <= 0.01 * lately.counted.0 as f64, "{second}");
            assert!(second <= 10 || (EVEN..=Nanos(EVEN.0 + STEP.0)).contains(&lately.elapsed));
        }
        assert!(account.used() >= Nanos(600_000_000), "{:?}", account.used());
    }
}
