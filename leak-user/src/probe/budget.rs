//! Keeps what probes cost the target under the allowed share of its own work.
//!
//! What a burst costs is counted, not guessed: hits while the gate was open (trap and program, booked
//! in the kernel), and hits while it was closed (between the first attach and the last drop: trap
//! only). A burst is started only when the account covers what the dearest of the latest bursts of its
//! kind did cost, and ends itself in the kernel when its own share is spent.
//!
//! The target's own work is the processor time that all of its threads have taken, less what probes took of it: one
//! with many threads at work has more to give. One that keeps less than a core busy is taken for one that keeps one
//! busy: what it allows by its work alone would take minutes to tell anything.
//!
//! A second account bounds how many requests can feel the probes. While a burst goes on, each hit makes the
//! request that it falls into slower; where that comes to more than a tenth, the own work done meanwhile is
//! counted ([`Outcome::felt`]), and is to stay under half of the allowed share of all work: of the requests, as many.
//! Here, a target is taken to keep half a core busy at least.

use leak_common::counters::Counter;

use super::{
    account::{Account, Done, Moment},
    calibrate::Calibration,
    late::Lates,
    outcome::{Outcome, Terms},
};
use crate::units::Nanos;

/// The work that may be done within bursts that are felt, as a part of the allowed share: at 1 %, one request in two
/// hundred is slower by more than a tenth, and the 99th percentile stays about where it was.
const FELT: f64 = 0.5;

/// Cores' work that a target is taken to do at least, for what probes spend of it …
const LEAST_PACE: f64 = 1.0;

/// … and for what may be felt. Below half of that, more than one request in a hundred may be slower at 1 %.
const LEAST_FELT_PACE: f64 = 0.5;

/// A burst may spend what so much of the target's time allows: many small ones see the begins of long requests alone.
const PACE: Nanos = Nanos(2_000_000_000);

/// … but so much at least: what is seen must be worth the attach.
const LEAST_SPEND: Nanos = Nanos(300_000);

/// What one request can feel where words are watched: that is set and dropped at once, so that it can be done more
/// often.
const WORDS_SPEND: Nanos = Nanos(4_000_000);

/// A gate is open for so long at most, where the target allocates little.
const LONGEST_GATE: Nanos = Nanos(100_000_000);

/// … and for so long where words are watched: what is rare is seen to stay with many requests at the cost of one.
const LONGEST_WORDS_GATE: Nanos = Nanos(300_000_000);

/// A trial may spend so much …
const TRIAL_SPEND: Nanos = Nanos(100_000_000);

/// … within this time.
const TRIAL_GATE: Nanos = Nanos(1_000_000_000);

/// Bursts begin at least so far apart: each makes the kernel patch the target's code twice.
const SPACING: Nanos = Nanos(400_000_000);

/// … and up to so much more: a service that works at a steady pace would be met at the same of its requests, always.
const SPREAD: Nanos = Nanos(100_000_000);

/// Where the accounts cover no burst yet, they are asked again after so long, or after half of it.
const ASK_AGAIN: Nanos = Nanos(50_000_000);

/// The golden ratio's multiples fall apart as evenly as any, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// The accounts.
#[derive(Debug)]
pub struct Budget {
    start: Moment,
    duration: Nanos,
    /// What one burst may spend at most.
    burst_most: Nanos,
    spent: Account,
    felt: Account,
    /// How much work each kind of burst has had the fruits of, for whose turn it is.
    turns: [Nanos; 2],
    late: [Lates; 2],
    hits: u64,
    last_start: Option<Nanos>,
    costs: Calibration,
    /// How often they were asked for a burst.
    asked: u32,
}

/// The kinds of bursts that are accounted for apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// pymalloc.
    Pymalloc,
    /// The C library's heap.
    Malloc,
}

/// How a burst watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// Probes on functions.
    Functions,
    /// Breakpoints on the words of size classes. `share`: of the hits that all classes worth watching take.
    Words {
        /// Which: a bit each, that of class 1 first.
        classes: u64,
        /// 0 to 1.
        share: f64,
    },
}

impl Way {
    /// What it watches, of all hits that this way could see.
    pub(super) fn share(self) -> f64 {
        match self {
            Self::Functions => 1.0,
            Self::Words { share, .. } => share,
        }
    }
}

/// What the user allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// The share of the target's own work, or of a core's where it does less.
    pub share: f64,
    /// What one burst, and so one request, may be made to wait.
    pub burst_most: Nanos,
    /// For how long.
    pub duration: Nanos,
}

impl Budget {
    /// From `start` on, with costs as calibrated.
    #[must_use]
    pub fn new(allowed: Allowed, start: Moment, costs: Calibration) -> Self {
        Self {
            start,
            duration: allowed.duration,
            burst_most: allowed.burst_most,
            spent: Account::new(allowed.share, LEAST_PACE, start.now),
            felt: Account::new(allowed.share * FELT, LEAST_FELT_PACE, start.now),
            turns: [Nanos(0); 2],
            late: [Lates::default(), Lates::default()],
            hits: 0,
            last_start: None,
            costs,
            asked: 0,
        }
    }

    /// Whose turn it is among the kinds that can be watched; `parts`: of what is allowed, by kind.
    #[must_use]
    pub fn turn(&self, kinds: &[Kind], parts: [f64; 2]) -> Option<Kind> {
        let had = |kind: &Kind| self.turns[*kind as usize].0 as f64 / parts[*kind as usize];
        kinds.iter().copied().min_by(|a, b| had(a).total_cmp(&had(b)))
    }

    /// The terms of the next burst, or how long to wait before this is asked again.
    ///
    /// # Errors
    /// The time to wait.
    pub fn next(&mut self, kind: Kind, way: Way, at: Moment) -> Result<Terms, Nanos> {
        self.asked = self.asked.wrapping_add(1);
        let part = (f64::from(self.asked) * GOLDEN).fract();
        let of = |time: Nanos| (time.0 as f64 * part) as u64;
        let spacing =
            self.last_start.map_or(0, |last| (last.0 + SPACING.0).saturating_sub(at.now.0));
        let spacing = if spacing > 0 { spacing + of(SPREAD) } else { 0 };
        let terms = self.terms(kind, way, at);
        // What it passes over is known to cost; the rest is as of late.
        let least = Nanos(terms.limit.0 + terms.skip * self.trap(way).0);
        let done = self.done(at);
        [&mut self.spent, &mut self.felt].into_iter().for_each(|account| account.advance(done));
        let covered = self.spent.covers(kind, least, done, self.duration)
            && self.felt.covers(kind, Nanos(0), done, self.duration);
        let again = if covered { 0 } else { ASK_AGAIN.0 / 2 + of(ASK_AGAIN) / 2 };
        match Nanos(spacing).max(Nanos(again)) {
            Nanos(0) => Ok(terms),
            wait => Err(wait),
        }
    }

    /// The terms of a burst that comes at its usual pace.
    fn terms(&self, kind: Kind, way: Way, at: Moment) -> Terms {
        let done = self.done(at);
        let (most, longest) = match way {
            Way::Functions => (self.burst_most, LONGEST_GATE),
            Way::Words { .. } => (self.burst_most.min(WORDS_SPEND), LONGEST_WORDS_GATE),
        };
        let allowed = self.spent.allows(PACE, done).clamp(LEAST_SPEND.min(most), most);
        // A request waits for what is passed over, too: up to half of what is recorded gives way to it.
        let (trap, room) = (self.trap(way).0.max(1), self.burst_most.0.saturating_sub(allowed.0));
        let skip = self.late[kind as usize].skip(way).min((room + allowed.0 / 2) / trap);
        Terms {
            limit: Nanos(allowed.0 - (skip * trap).saturating_sub(room)),
            felt: self.felt.allows(PACE, done),
            longest,
            costs: self.costs,
            skip,
            classes: u64::MAX,
            told: 0,
            note_content: true,
        }
    }

    /// What a hit costs beside the program's own time.
    fn trap(&self, way: Way) -> Nanos {
        match way {
            Way::Functions => self.costs.trap,
            Way::Words { .. } => self.costs.breakpoint_trap,
        }
    }

    /// What the target has done of its own work since the start.
    fn done(&self, at: Moment) -> Done {
        let worked = at.worked.0.saturating_sub(self.start.worked.0);
        Done { now: at.now, own: Nanos(worked.saturating_sub(self.spent.used().0)) }
    }

    /// Cores that the target keeps busy with its own work, since the start.
    #[must_use]
    pub fn pace(&self, at: Moment) -> f64 {
        let time = at.now.0.saturating_sub(self.start.now.0);
        self.done(at).own.0 as f64 / time.max(1) as f64
    }

    /// One burst to estimate from, whatever the account says: long enough to see work and pauses.
    #[must_use]
    pub fn trial(&self) -> Terms {
        self.anyway(TRIAL_SPEND, TRIAL_GATE)
    }

    /// Everything, until it is closed.
    #[must_use]
    pub fn unlimited(&self) -> Terms {
        Terms { note_content: false, ..self.anyway(Nanos(u64::MAX), Nanos(u64::MAX)) }
    }

    fn anyway(&self, limit: Nanos, longest: Nanos) -> Terms {
        let felt = Nanos(u64::MAX);
        let classes = u64::MAX;
        let (costs, skip, told) = (self.costs, 0, 0);
        Terms { limit, felt, longest, costs, skip, classes, told, note_content: true }
    }

    /// Books a burst that the account did not have to allow.
    pub fn book_other(&mut self, outcome: &Outcome) {
        self.spent.take(outcome.cost());
        self.hits += outcome.counts.get(Counter::Hits);
    }

    /// Books what breakpoints that were slow to go have cost. The next burst of a kind is expected to
    /// cost as much again.
    pub fn book_lingering(&mut self, cost: Nanos) {
        if cost.0 > 0 {
            self.spent.take(cost);
            self.spent.expect(Nanos(self.burst_most.0 + cost.0));
        }
    }

    /// Books what probes that stay have cost.
    pub fn book_watching(&mut self, hits: u64, cost: Nanos) {
        self.hits += hits;
        self.spent.take(cost);
    }

    /// Books a burst that was run on these terms.
    pub fn book(&mut self, kind: Kind, way: Way, begun: Nanos, outcome: &Outcome, terms: &Terms) {
        let (cost, felt) = (outcome.cost(), outcome.felt());
        self.last_start = Some(begun);
        self.spent.book(kind, cost);
        self.felt.book(kind, felt);
        self.hits += outcome.counts.get(Counter::Hits);
        // One that hardly found anything to do has had its turn all the same.
        let cost = cost.max(Nanos(terms.limit.0 / 2));
        self.turns[kind as usize].0 += self.spent.worth(cost).max(self.felt.worth(felt)).0;
        let in_time = outcome.open() >= terms.longest;
        self.late[kind as usize].book(outcome.open_hits(), way, in_time);
    }

    /// The share spent so far of what the budget is a share of: the target's processor time, or that of a core where
    /// it took less.
    #[must_use]
    pub fn spent_share(&self, at: Moment) -> f64 {
        let spent = self.spent.used().0;
        let worked = self.spent.counted(self.done(at)).0.saturating_add(spent);
        if spent == 0 { 0.0 } else { spent as f64 / worked as f64 }
    }

    /// The share spent so far of the processor time that the target itself took.
    #[must_use]
    pub fn work_share(&self, at: Moment) -> f64 {
        let spent = self.spent.used().0;
        let worked = at.worked.0.saturating_sub(self.start.worked.0);
        if spent == 0 { 0.0 } else { spent as f64 / worked.max(spent) as f64 }
    }

    /// Probe hits.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Mean cost of a hit in ns.
    #[must_use]
    pub fn ns_per_hit(&self) -> f64 {
        if self.hits == 0 { 0.0 } else { self.spent.used().0 as f64 / self.hits as f64 }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
