//! An account that is filled by the target's own work and paid from by bursts. What it holds is of the last while
//! alone: a target that was idle for an hour has not saved up for the next minute.

use std::collections::VecDeque;

use super::budget::Kind;
use crate::units::Nanos;

/// The bound is kept over so much time: a burst comes only where what was spent in as much before it, and what it will
/// cost, are at most the share of the work done meanwhile. One that is dearer than that allows comes more rarely.
pub(super) const EVEN: Nanos = Nanos(10_000_000_000);

/// … and of it as much as this part of the time is spent ahead at first, so that there is soon something to tell: then
/// less and less, until the account is even after that time, or at the observation's end if that is sooner.
const AHEAD: f64 = 0.5;

/// What was there is noted so often.
const STEP: Nanos = Nanos(1_000_000_000);

/// So much of it is remembered, an hour: dearer bursts than that allows don't come again.
const MOST_STEPS: usize = 3600;

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
    /// The target's own work.
    own: Nanos,
    /// What was paid.
    used: Nanos,
}

/// What bursts may take, as a share of the target's own work, and what they have taken.
#[derive(Debug)]
pub(super) struct Account {
    share: f64,
    /// Cores' work that the target is taken to do at least.
    least_pace: f64,
    /// At the end of each step, from the begin on or for [`MOST_STEPS`].
    course: VecDeque<Balance>,
    /// Where the latest stretch of [`EVEN`] began, and the work that was counted before it.
    stretch: Balance,
    counted_before: Nanos,
    /// What was paid so far.
    used: Nanos,
    /// What the dearest of the latest bursts of each kind has taken, forgotten slowly.
    expected: [Nanos; 2],
}

impl Account {
    /// An empty one, from a moment on.
    pub(super) fn new(share: f64, least_pace: f64, from: Nanos) -> Self {
        let begin = Balance { at: from, own: Nanos(0), used: Nanos(0) };
        Self {
            share,
            least_pace,
            course: VecDeque::from([begin]),
            stretch: begin,
            counted_before: Nanos(0),
            used: Nanos(0),
            expected: [Nanos(0); 2],
        }
    }

    /// The target has come so far.
    pub(super) fn advance(&mut self, done: Done) {
        if self.course.back().is_some_and(|last| done.now.0 < last.at.0 + STEP.0) {
            return;
        }
        let balance = Balance { at: done.now, own: done.own, used: self.used };
        if done.now.0 >= self.stretch.at.0 + EVEN.0 {
            self.counted_before = self.counted(done);
            self.stretch = balance;
        }
        self.course.push_back(balance);
        if self.course.len() > MOST_STEPS {
            self.course.pop_front();
        }
    }

    /// The work that is counted to the target since the begin.
    pub(super) fn counted(&self, done: Done) -> Nanos {
        Nanos(self.counted_before.0 + self.counted_since(&self.stretch, done).0)
    }

    /// … and since a moment: its own, or that of as many cores as it is taken to keep busy at least.
    fn counted_since(&self, since: &Balance, done: Done) -> Nanos {
        let at_least = self.least_pace * elapsed(since, done).0 as f64;
        Nanos(done.own.0.saturating_sub(since.own.0).max(at_least as u64))
    }

    /// The latest moment that lies [`EVEN`] back, and since which so much work has been counted; else the first.
    fn moment(&self, worth: Nanos, done: Done) -> Balance {
        let is_far = |since: &&Balance| {
            elapsed(since, done) >= EVEN && self.counted_since(since, done) >= worth
        };
        let first = self.course.front().unwrap_or(&self.stretch);
        *self.course.iter().rev().find(is_far).unwrap_or(first)
    }

    /// How many cores' work has been counted to it of late.
    fn pace(&self, done: Done) -> f64 {
        let since = self.moment(Nanos(0), done);
        let counted = self.counted_since(&since, done).0 as f64;
        (counted / elapsed(&since, done).0.max(1) as f64).max(self.least_pace)
    }

    /// What a burst may take that comes once in so much time.
    pub(super) fn allows(&self, time: Nanos, done: Done) -> Nanos {
        Nanos((time.0 as f64 * self.pace(done) * self.share) as u64)
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
        let next = self.expected[kind as usize].max(least);
        let since = self.moment(self.worth(next), done);
        let to_come = EVEN.min(duration).0.saturating_sub(elapsed(&since, done).0);
        let ahead = AHEAD * to_come as f64 * self.pace(done);
        let used = self.used.0 - since.used.0;
        let counted = self.counted_since(&since, done);
        self.worth(Nanos(used + next.0)).0 <= counted.0 + ahead as u64
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

fn elapsed(since: &Balance, done: Done) -> Nanos {
    Nanos(done.now.0.saturating_sub(since.at.0))
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
            let since = account.moment(Nanos(0), done);
            let counted = account.counted_since(&since, done).0 as f64;
            assert!((account.used.0 - since.used.0) as f64 <= 0.01 * counted, "{second}");
            assert!(second < 10 || elapsed(&since, done) == EVEN, "{second}");
        }
        assert!(account.used() >= Nanos(500_000_000), "{:?}", account.used());
    }

    #[test]
    fn a_burst_that_is_dearer_than_ten_seconds_allow_comes_more_rarely() {
        let mut account = Account::new(0.01, 0.1, Nanos(0));
        let mut came = Vec::new();
        for second in 1..=100 {
            let done = at(second, second as f64);
            account.advance(done);
            if covers(&account, Kind::Malloc, 5, done) {
                // Ten seconds allow 100 ms.
                account.book(Kind::Malloc, Nanos(250_000_000));
                came.push(second);
            }
        }
        assert_eq!(came.len(), 4, "{came:?}");
        assert!(
            came.windows(2).skip(1).all(|two| (25..=27).contains(&(two[1] - two[0]))),
            "{came:?}"
        );
    }

    #[test]
    fn work_by_fits_and_starts_is_hardly_counted_twice() {
        let mut account = Account::new(0.01, 1.0, Nanos(0));
        // Four cores for one second of four.
        for second in 1..=40 {
            account.advance(at(second, (second.div_ceil(4) * 4) as f64));
        }
        let counted = account.counted(at(40, 40.0)).0 / SECOND;
        assert!((40..=44).contains(&counted), "{counted}");
    }
}
