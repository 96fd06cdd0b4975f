//! Growing size classes that are hardly used by anything but what grows: a breakpoint on their lists of pools passes by
//! all the rest, and so sees a hundred times as much of the program for the same cost.
//!
//! Bursts on functions pay for each allocation and free of every class. Where one request of many leaks, at its end, as
//! many of them would be needed before one comes upon it.

use leak_common::keys::{SiteCounts, SiteKey};

use super::by_class::Choice;
use super::steer::worth_it;
use crate::ledger::seen_work::CLASSES;
use crate::probe::{calibrate::Calibration, classes::AT_ONCE, error::ProbeError};

/// With fewer allocations seen, nobody knows which classes are rare.
const LEAST_SEEN: f64 = 500.0;

/// One burst of so many watches rare classes: those on functions say what is rare, and how much of all was seen.
const EVERY: u32 = 2;

/// An allocation uses its class's list as often as this, with what pools do that leave it and come back.
const USES: f64 = 2.0;

/// A class must be rarer by this than where it would pay as well as functions.
const CLEARLY: f64 = 4.0;

/// What grows by this part of what grows most is worth a breakpoint, which costs next to nothing: where an object leaks
/// with all that it holds, the rarest of its parts tells the line for the fewest hits.
const WORTH: f64 = 0.01;

/// For so many bursts after a thread has ended there are no breakpoints: where threads come and go, those that begin in a
/// burst have none, and what they free seems to stay.
const CALM: u32 = 16;

/// What is known of how often classes are used.
#[derive(Debug)]
pub(super) struct Rare {
    /// Allocations by class, of bursts that recorded all classes.
    seen: [f64; CLASSES],
    /// Bursts that watched a class.
    watched: [u32; CLASSES],
    /// Bursts on functions.
    functions: u32,
    /// Bursts on functions since the latest that watched rare classes.
    since: u32,
    /// Bursts on functions that are still to come before the next one that watches rare classes.
    restless: u32,
    /// There are no breakpoints here.
    refused: bool,
}

impl Default for Rare {
    fn default() -> Self {
        Self {
            seen: [0.0; CLASSES],
            watched: [0; CLASSES],
            functions: 0,
            since: 0,
            restless: 0,
            refused: false,
        }
    }
}

impl Rare {
    /// For the next burst: of the classes that grow (`(class, bytes)`), those that are rare, by turns; None if it is not
    /// their turn, or there are none.
    pub(super) fn choose(&self, growth: &[(u32, f64)], costs: &Calibration) -> Option<Choice> {
        let all: f64 = self.seen.iter().sum();
        if self.refused || self.is_restless() || self.since + 1 < EVERY || all < LEAST_SEEN {
            return None;
        }
        // A burst on functions is hit at each allocation and each free.
        let pays = 2.0 * costs.trap.0 as f64 / (USES * costs.breakpoint_trap.0.max(1) as f64);
        let share = |class: &u32| self.seen.get(*class as usize).map_or(1.0, |seen| seen / all);
        let turns = |class: &u32| self.watched.get(*class as usize).copied().unwrap_or(u32::MAX);
        let mut classes: Vec<u32> = worth_it(growth, WORTH).collect();
        classes.sort_by(|a, b| turns(a).cmp(&turns(b)).then(share(a).total_cmp(&share(b))));
        let mut room = pays / CLEARLY;
        classes.retain(|class| {
            let fits = share(class) <= room;
            room -= if fits { share(class) } else { 0.0 };
            fits
        });
        classes.truncate(AT_ONCE);
        let share = classes.iter().map(share).sum::<f64>().max(1.0 / all);
        (!classes.is_empty()).then_some(Choice { classes, share })
    }

    /// Books a burst on functions that recorded all classes.
    pub(super) fn saw_all(&mut self, counts: &[(SiteKey, SiteCounts)]) {
        for (key, counts) in counts {
            if let Some(seen) = self.seen.get_mut(key.size_class as usize) {
                *seen += counts.allocs as f64;
            }
        }
    }

    /// Books a burst on functions.
    pub(super) fn passed(&mut self) {
        self.since += 1;
        self.functions += 1;
        self.restless = self.restless.saturating_sub(1);
    }

    /// Bursts on functions so far.
    pub(super) fn bursts_on_functions(&self) -> u32 {
        self.functions
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&mut self) {
        self.restless = CALM;
    }

    /// Do threads come and go?
    pub(super) fn is_restless(&self) -> bool {
        self.restless > 0
    }

    /// Books one that watched rare classes.
    pub(super) fn watched(&mut self, choice: &Choice) {
        self.since = 0;
        for class in &choice.classes {
            if let Some(watched) = self.watched.get_mut(*class as usize) {
                *watched += 1;
            }
        }
    }

    /// There are none in some virtual machines, or a debugger has them.
    pub(super) fn refuse(&mut self, error: &ProbeError) {
        tracing::debug!(%error, "data breakpoints were refused");
        self.refused = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::seen_work::counts;
    use crate::units::Nanos;

    const COSTS: Calibration =
        Calibration { trap: Nanos(800), return_trap: Nanos(900), breakpoint_trap: Nanos(6_000) };

    fn rare(seen: &[(u32, u64)]) -> Rare {
        let mut rare = Rare::default();
        rare.saw_all(&counts(seen));
        rare.passed();
        rare
    }

    #[test]
    fn growing_classes_that_hardly_anything_else_uses_are_watched() {
        let mut rare = rare(&[(2, 900), (3, 4000), (6, 20), (7, 30)]);
        let growth = [(2, 100.0), (3, 4000.0), (6, 9000.0), (7, 0.0), (8, 5000.0)];
        let choice = rare.choose(&growth, &COSTS).unwrap();
        // Of the eighth, none was seen.
        assert_eq!(choice.classes, [8, 6]);
        assert!((choice.share - 20.0 / 4950.0).abs() < 1e-9, "{choice:?}");
        // The next one is for functions.
        rare.watched(&choice);
        assert_eq!(rare.choose(&growth, &COSTS), None);
        rare.passed();
        assert!(rare.choose(&growth, &COSTS).is_some());
    }

    #[test]
    fn where_threads_come_and_go_nobody_is_watched() {
        let mut rare = rare(&[(2, 9000), (6, 20)]);
        let growth = [(6, 9000.0)];
        rare.thread_ended();
        for _ in 0..CALM {
            assert!(rare.is_restless());
            assert_eq!(rare.choose(&growth, &COSTS), None);
            rare.passed();
        }
        assert!(rare.choose(&growth, &COSTS).is_some());
    }

    #[test]
    fn rare_classes_take_turns() {
        let mut rare = rare(&[(2, 90_000), (6, 1), (7, 2), (8, 3), (9, 4), (10, 5), (11, 6)]);
        let growth: Vec<(u32, f64)> = (6..=11).map(|class| (class, 9000.0)).collect();
        let mut turns = Vec::new();
        for _ in 0..3 {
            let choice = rare.choose(&growth, &COSTS).unwrap();
            rare.watched(&choice);
            rare.passed();
            turns.push(choice.classes);
        }
        assert_eq!(turns, [vec![6, 7, 8, 9], vec![10, 11, 6, 7], vec![8, 9, 10, 11]]);
    }

    #[test]
    fn where_what_grows_is_used_all_the_time_functions_do_better() {
        let growth = [(2, 100.0), (3, 4000.0)];
        assert_eq!(rare(&[(2, 900), (3, 4000)]).choose(&growth, &COSTS), None);
        // Too little was seen to tell.
        assert_eq!(rare(&[(2, 90), (6, 1)]).choose(&[(6, 9000.0)], &COSTS), None);
        assert_eq!(rare(&[(2, 9000)]).choose(&[], &COSTS), None);
    }
}
