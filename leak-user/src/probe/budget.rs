//! Keeps what probes cost the target under the allowed share of its time.
//!
//! What a burst costs is counted, not guessed: hits while the gate was open (trap and program, booked
//! in the kernel), and hits while it was closed (between the first attach and the last drop: trap
//! only). A burst is started only when the account covers what the dearest of the latest bursts of its
//! kind did cost, and ends itself in the kernel when its own share is spent.

use leak_common::counters::Counter;

use super::{
    burst::{Outcome, Terms},
    calibrate::Calibration,
};
use crate::units::Nanos;

/// A burst's gate is open for at most so much of the target's time: what one request can feel.
const BURST_SPEND: Nanos = Nanos(10_000_000);

/// … and, where words are watched, for so much: that is set and dropped at once, so that it can be done more
/// often.
const WORDS_SPEND: Nanos = Nanos(4_000_000);

/// … and for so long, where the target allocates little.
const LONGEST_GATE: Nanos = Nanos(100_000_000);

/// The gate is open in vain for at most so many times the allowed share: a target that mostly waits could pay for a
/// gate that is hardly ever closed, but the requests that come meanwhile are the slower ones, and with many of them
/// the median is. A burst that has spent a third of what it might was open in vain for two thirds of its time.
const IN_VAIN_PER_SHARE: f64 = 10.0;

/// A trial may spend so much …
const TRIAL_SPEND: Nanos = Nanos(100_000_000);

/// … within this time.
const TRIAL_GATE: Nanos = Nanos(1_000_000_000);

/// Bursts begin at least so far apart: each makes the kernel patch the target's code twice.
const SPACING: Nanos = Nanos(400_000_000);

/// Bursts that begin late pass over so many hits at least …
const SKIPPED_LEAST: f64 = 512.0;

/// … and at most: some 15 ms of traps.
const SKIPPED_MOST: f64 = 16_384.0;

/// The share of this much time may be spent ahead, so that the first bursts need not wait; at the
/// observation's end the account is even again.
const AHEAD: Nanos = Nanos(2_000_000_000);

/// The account.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    start: Nanos,
    duration: Nanos,
    spent: Nanos,
    /// What each kind of burst has had of it, for whose turn it is.
    turns_spent: [Nanos; 2],
    /// How many bursts each kind has had.
    turns: [u32; 2],
    hits: u64,
    last_start: Option<Nanos>,
    /// What the latest bursts of each kind cost.
    expected: [Nanos; 2],
    /// For how long the gate has been open in vain …
    in_vain: Nanos,
    /// … and was in the latest burst of each kind.
    in_vain_of_late: [Nanos; 2],
    /// So many hits the next burst of each kind may pass over.
    most_skipped: [u64; 2],
    costs: Calibration,
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
        /// 0 to 1.
        share: f64,
    },
}

/// Hits of the classes that are worth watching, of those of the functions: there are no frees among them, and
/// not all classes.
const CLASSES_OF_ALL: f64 = 0.125;

/// How many hits the burst of this turn passes over.
///
/// A service that mostly waits is found waiting when a burst begins: the burst would see the beginning of a
/// request, always, and its end never, where it takes more than the burst may spend. So three bursts of
/// four begin later, at points that spread evenly on a logarithmic scale (van der Corput's sequence),
/// since nobody knows how much a request allocates.
fn skip(turn: u32) -> u64 {
    if turn.is_multiple_of(4) {
        return 0;
    }
    let late = turn - turn / 4 - 1;
    let spread = f64::from(late.reverse_bits()) / 2_f64.powi(32);
    let ratio = SKIPPED_MOST / SKIPPED_LEAST;
    (SKIPPED_LEAST * ratio.powf(spread)) as u64
}

impl Budget {
    /// `share` of the target's time over `duration`, with costs as calibrated.
    #[must_use]
    pub fn new(share: f64, start: Nanos, duration: Nanos, costs: Calibration) -> Self {
        Self {
            share,
            start,
            duration,
            spent: Nanos(0),
            turns_spent: [Nanos(0); 2],
            turns: [0; 2],
            hits: 0,
            last_start: None,
            expected: [BURST_SPEND; 2],
            in_vain: Nanos(0),
            in_vain_of_late: [LONGEST_GATE; 2],
            most_skipped: [u64::MAX; 2],
            costs,
        }
    }

    /// Whose turn it is among the kinds that can be watched; `parts`: of what is spent, by kind.
    #[must_use]
    pub fn turn(&self, kinds: &[Kind], parts: [f64; 2]) -> Option<Kind> {
        let had = |kind: &Kind| self.turns_spent[*kind as usize].0 as f64 / parts[*kind as usize];
        kinds.iter().copied().min_by(|a, b| had(a).total_cmp(&had(b)))
    }

    /// The terms of the next burst, or how long to wait for one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn next(&self, kind: Kind, way: Way, now: Nanos) -> Result<Terms, Nanos> {
        let spacing = self.last_start.map_or(0, |last| (last.0 + SPACING.0).saturating_sub(now.0));
        let elapsed = (now.0.saturating_sub(self.start.0) + AHEAD.0).min(self.duration.0);
        let skip = skip(self.turns[kind as usize]).min(self.most_skipped[kind as usize]);
        let (spend, skip, hit) = match way {
            Way::Functions => (BURST_SPEND, skip, self.costs.trap),
            Way::Words { share } => (
                WORDS_SPEND,
                (skip as f64 * CLASSES_OF_ALL * share) as u64,
                self.costs.breakpoint_trap,
            ),
        };
        // What it passes over is known to cost; the rest is as of late.
        let least = spend.0 + skip * hit.0;
        let expected = self.expected[kind as usize].0.max(least);
        let needed = (self.spent.0 + expected) as f64 / self.share;
        let in_vain = self.in_vain.0 + self.in_vain_of_late[kind as usize].0;
        let needed_for_it = in_vain as f64 / (self.share * IN_VAIN_PER_SHARE).min(1.0);
        let wait = (needed.max(needed_for_it) - elapsed as f64).max(0.0) as u64;
        match wait.max(spacing) {
            0 => Ok(Terms { skip, ..self.terms(spend, LONGEST_GATE) }),
            wait => Err(Nanos(wait)),
        }
    }

    fn terms(&self, limit: Nanos, longest: Nanos) -> Terms {
        Terms { limit, longest, costs: self.costs, skip: 0, note_content: true }
    }

    /// One burst to estimate from, whatever the account says: long enough to see work and pauses.
    #[must_use]
    pub fn trial(&self) -> Terms {
        self.terms(TRIAL_SPEND, TRIAL_GATE)
    }

    /// Everything, until it is closed.
    #[must_use]
    pub fn unlimited(&self) -> Terms {
        Terms { note_content: false, ..self.terms(Nanos(u64::MAX), Nanos(u64::MAX)) }
    }

    /// Books a burst that the account did not have to allow.
    pub fn book_other(&mut self, outcome: &Outcome) {
        self.spent.0 += self.cost(outcome).0;
        self.hits += outcome.counts.get(Counter::Hits);
    }

    /// Books what breakpoints that were slow to go have cost. The next burst of a kind is expected to
    /// cost as much again.
    pub fn book_lingering(&mut self, cost: Nanos) {
        self.spent.0 += cost.0;
        for expected in &mut self.expected {
            expected.0 = expected.0.max(BURST_SPEND.0 + cost.0);
        }
    }

    /// Books a burst that might have spent `limit`.
    pub fn book(&mut self, kind: Kind, begun: Nanos, outcome: &Outcome, limit: Nanos) {
        let cost = self.cost(outcome);
        self.last_start = Some(begun);
        self.book_other(outcome);
        self.turns[kind as usize] += 1;
        // One that hardly found anything to do has had its turn all the same.
        self.turns_spent[kind as usize].0 += cost.0.max(limit.0 / 2);
        let expected = &mut self.expected[kind as usize];
        // The dearest of late, forgotten slowly.
        *expected = Nanos(cost.0.max(expected.0 - expected.0 / 4));
        let unspent = 1.0 - (outcome.spent.0 as f64 / limit.0.max(1) as f64).min(1.0);
        let in_vain = Nanos((outcome.open().0 as f64 * unspent) as u64);
        self.in_vain.0 += in_vain.0;
        self.in_vain_of_late[kind as usize] = in_vain;
        // Its time was over before its share was spent: one that passes over as many hits would see nothing.
        self.most_skipped[kind as usize] = if outcome.open() >= LONGEST_GATE {
            outcome.counts.get(Counter::Hits) / 2
        } else {
            u64::MAX
        };
    }

    /// What a burst cost the target.
    #[must_use]
    pub fn cost(&self, outcome: &Outcome) -> Nanos {
        Nanos(outcome.spent.0 + outcome.closed_cost.0)
    }

    /// What was spent of the target's time so far.
    #[must_use]
    pub fn spent(&self) -> Nanos {
        self.spent
    }

    /// The share of the target's time spent so far.
    #[must_use]
    pub fn spent_share(&self, now: Nanos) -> f64 {
        let elapsed = now.0.saturating_sub(self.start.0);
        if elapsed == 0 { 0.0 } else { self.spent.0 as f64 / elapsed as f64 }
    }

    /// Probe hits.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Mean cost of a hit in ns.
    #[must_use]
    pub fn ns_per_hit(&self) -> f64 {
        if self.hits == 0 { 0.0 } else { self.spent.0 as f64 / self.hits as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(spent: u64) -> Outcome {
        Outcome {
            burst: 1,
            opened: Nanos(0),
            closed: Nanos(0),
            spent: Nanos(spent),
            counts: super::super::tables::Counts::default(),
            closed_cost: Nanos(0),
            attach_time: Nanos(0),
            detach_time: Nanos(0),
        }
    }

    /// Turns of pymalloc and malloc among 30, where a burst of each spends so much.
    fn turns(spends: [u64; 2]) -> [usize; 2] {
        let mut budget = Budget::new(0.01, Nanos(0), Nanos(u64::MAX), Calibration::USUAL);
        let mut had = [0; 2];
        for _ in 0..30 {
            let kind = budget.turn(&[Kind::Pymalloc, Kind::Malloc], [2.0, 1.0]).unwrap();
            had[kind as usize] += 1;
            budget.book(kind, Nanos(0), &outcome(spends[kind as usize]), BURST_SPEND);
        }
        had
    }

    #[test]
    fn turns_follow_what_is_spent_but_none_is_for_free() {
        assert_eq!(turns([10_000_000, 10_000_000]), [20, 10]);
        assert_eq!(turns([1_000, 10]), [20, 10]);
        // One of ten milliseconds for each that found nothing, twice as many parts: as many bursts.
        assert_eq!(turns([10_000_000, 10]), [15, 15]);
    }

    /// Bursts in 20 s of a target that waits, and for how long the gate was open in vain.
    fn bursts_of_a_target_that_waits(share: f64) -> (u32, Nanos) {
        let (mut now, mut bursts) = (Nanos(0), 0);
        let duration = Nanos(20_000_000_000);
        let mut budget = Budget::new(share, now, duration, Calibration::USUAL);
        while now < duration {
            match budget.next(Kind::Malloc, Way::Functions, now) {
                Ok(terms) => {
                    let closed = Nanos(now.0 + terms.longest.0);
                    let waited = Outcome { opened: now, closed, ..outcome(50_000) };
                    budget.book(Kind::Malloc, now, &waited, terms.limit);
                    bursts += 1;
                    now = closed;
                }
                Err(wait) => now.0 += wait.0,
            }
        }
        (bursts, budget.in_vain)
    }

    /// On a busy machine a burst takes its time, but finds as much as elsewhere.
    #[test]
    fn a_target_that_waits_for_its_core_is_observed_all_the_same() {
        let mut budget = Budget::new(0.01, Nanos(0), Nanos(u64::MAX), Calibration::USUAL);
        let slow = Outcome { closed: Nanos(90_000_000), ..outcome(BURST_SPEND.0) };
        for second in 1..20 {
            budget.book(Kind::Pymalloc, Nanos(0), &slow, BURST_SPEND);
            assert_eq!(budget.in_vain, Nanos(0), "burst {second}");
        }
    }

    #[test]
    fn where_little_happens_a_burst_does_not_pass_over_all_of_it() {
        let mut budget = Budget::new(0.01, Nanos(0), Nanos(u64::MAX), Calibration::USUAL);
        let rare = Outcome { closed: LONGEST_GATE, ..outcome(0) };
        for turn in 1..20 {
            budget.book(Kind::Malloc, Nanos(0), &rare, BURST_SPEND);
            let terms = budget.next(Kind::Malloc, Way::Functions, Nanos(1 << 50)).unwrap();
            assert_eq!(terms.skip, 0, "turn {turn}");
        }
        // Pymalloc's are as they were.
        budget.book(Kind::Pymalloc, Nanos(0), &outcome(BURST_SPEND.0), BURST_SPEND);
        let terms = budget.next(Kind::Pymalloc, Way::Functions, Nanos(1 << 50)).unwrap();
        assert!(terms.skip >= SKIPPED_LEAST as u64);
    }

    #[test]
    fn a_target_that_waits_is_left_alone_for_most_of_the_time() {
        let (bursts, open) = bursts_of_a_target_that_waits(0.01);
        assert!((15..=22).contains(&bursts), "{bursts}");
        assert!(open <= Nanos(2_000_000_000), "{open:?}");
        let (bursts, open) = bursts_of_a_target_that_waits(0.002);
        assert!((3..=5).contains(&bursts) && open <= Nanos(400_000_000), "{bursts}, {open:?}");
    }

    #[test]
    fn late_bursts_spread_over_requests_of_every_size() {
        let late: Vec<u64> = (0..32).map(skip).filter(|skip| *skip > 0).collect();
        assert_eq!(late.len(), 24);
        let range = SKIPPED_LEAST as u64..SKIPPED_MOST as u64;
        assert!(late.iter().all(|skip| range.contains(skip)), "{late:?}");
        // Each of the five octaves has its share, of any eight in a row too.
        for eight in late.windows(8) {
            for octave in 9..14 {
                let within = eight.iter().filter(|skip| skip.ilog2() == octave).count();
                assert!((1..=3).contains(&within), "octave {octave} of {eight:?}");
            }
        }
    }
}
