//! When pymalloc is watched by size class instead of by function, and which classes.
//!
//! A hit costs the same whatever the class, but some classes are used twenty times as often as others that grow
//! as fast. So three bursts of four go to the classes that pay best, in growth for a hit, and the fourth to those
//! that were watched least.

use leak_common::{
    counters::Counter,
    keys::{SiteCounts, SiteKey},
};

use super::Session;
use crate::{
    ledger::seen_work::{CLASSES, SeenWork},
    probe::{
        budget::Way,
        classes::{self, AT_ONCE, Watch},
        outcome::Outcome,
    },
    units::Addr,
};

/// With less of pymalloc's events seen than this, probes on its functions are given up.
const ENOUGH: f64 = 0.9;

/// Events without which a burst says nothing of the coverage.
const MEASURABLE: u64 = 50;

/// Classes that pay at least this part of what the best one does are watched with it.
const PAYS: f64 = 0.25;

/// One burst of so many goes to the classes that were watched least.
const LEAST_EVERY: u32 = 4;

/// With fewer hits, a class is quiet: watching it costs next to nothing, and what it pays can't be told.
const MEASURED: f64 = 10.0;

/// Bursts that a class is tried before it is quiet.
const TRIES: u32 = 3;

/// The use of a quiet class.
const RARE: f64 = 0.5;

/// Watching by size class.
#[derive(Debug)]
pub(super) struct ByClass {
    /// Bursts so far.
    bursts: u32,
    classes: [Class; CLASSES],
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    /// Bursts that watched it.
    bursts: u32,
    /// Allocations that they saw.
    hits: f64,
    /// How often it is used, in a unit that all classes share; None: not known yet.
    usage: Option<f64>,
}

/// The classes that a burst watches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// At most as many as can be watched at once.
    pub classes: Vec<u32>,
    /// Their part of the use of all classes that are worth watching.
    pub share: f64,
}

impl ByClass {
    fn new() -> Self {
        Self { bursts: 0, classes: [Class::default(); CLASSES] }
    }

    /// For the next burst. `growth`: the classes that hold blocks, and by how many blocks each has grown.
    fn choose(&self, growth: &[(u32, f64)]) -> Choice {
        let mut growing: Vec<(u32, f64)> =
            growth.iter().copied().filter(|(_, growth)| *growth > 0.0).collect();
        growing.sort_by(|a, b| b.1.total_cmp(&a.1));
        let unknown: Vec<u32> =
            growing.iter().map(|(c, _)| *c).filter(|c| self.class(*c).is_unknown()).collect();
        let mut classes = if growing.is_empty() {
            self.least_watched(growth)
        } else if !unknown.is_empty() {
            // With the one that is known best, so that their use can be compared.
            let known = growing.iter().map(|(c, _)| *c).filter(|c| self.class(*c).usage.is_some());
            let best = known.max_by(|a, b| self.class(*a).hits.total_cmp(&self.class(*b).hits));
            best.into_iter().chain(unknown.iter().copied()).collect()
        } else if self.bursts % LEAST_EVERY == LEAST_EVERY - 1 {
            self.least_watched(&growing)
        } else {
            self.best_paying(&growing)
        };
        classes.truncate(AT_ONCE);
        let used = |classes: &[u32]| classes.iter().map(|c| self.usage(*c)).sum::<f64>();
        let worth: Vec<u32> = growing.iter().map(|(c, _)| *c).collect();
        let share = if unknown.is_empty() { used(&classes) / used(&worth).max(RARE) } else { 1.0 };
        Choice { classes, share: share.min(1.0) }
    }

    fn class(&self, class: u32) -> Class {
        self.classes.get(class as usize).copied().unwrap_or_default()
    }

    fn usage(&self, class: u32) -> f64 {
        self.class(class).usage.unwrap_or(RARE)
    }

    /// The best of those whose pay can be told, then the quiet ones.
    fn best_paying(&self, growing: &[(u32, f64)]) -> Vec<u32> {
        let is_measured = |class: u32| self.class(class).hits >= MEASURED;
        let measured = growing.iter().filter(|(c, _)| is_measured(*c));
        let quiet = growing.iter().copied().filter(|(c, _)| !is_measured(*c));
        let mut pay: Vec<(u32, f64)> =
            measured.map(|(c, growth)| (*c, growth / self.usage(*c))).collect();
        pay.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best = pay.first().map_or(0.0, |(_, best)| *best);
        let good = pay.into_iter().filter(|(_, pay)| *pay >= PAYS * best);
        good.chain(quiet).map(|(c, _)| c).collect()
    }

    fn least_watched(&self, all: &[(u32, f64)]) -> Vec<u32> {
        let mut classes: Vec<u32> = all.iter().map(|(c, _)| *c).collect();
        classes.sort_by_key(|c| self.class(*c).bursts);
        classes
    }

    /// Books what a burst saw of the classes that it watched.
    fn book(&mut self, choice: &Choice, counts: &[(SiteKey, SiteCounts)]) {
        let seen = |class: u32| allocations_of(class, counts);
        let unit = self.unit(choice, seen);
        self.bursts += 1;
        for index in &choice.classes {
            let Some(class) = self.classes.get_mut(*index as usize) else { continue };
            class.bursts += 1;
            class.hits += seen(*index);
            if let Some(unit) = unit {
                let found = (seen(*index) / unit).max(RARE);
                class.usage = Some(class.usage.map_or(found, |known| (known + found) / 2.0));
            }
        }
    }

    /// What one unit of use came to in a burst, by the classes whose use is known. None where too little of
    /// them was seen.
    fn unit(&self, choice: &Choice, seen: impl Fn(u32) -> f64) -> Option<f64> {
        let known = |c: &u32| self.class(*c).usage;
        let usage: f64 = choice.classes.iter().filter_map(known).sum();
        let hits = |c: &&u32| known(c).is_some() || self.classes.iter().all(|c| c.usage.is_none());
        let hits: f64 = choice.classes.iter().filter(hits).map(|c| seen(*c)).sum();
        if hits < MEASURED {
            return None;
        }
        Some(if usage > 0.0 { hits / usage } else { 1.0 })
    }
}

impl Class {
    fn is_unknown(&self) -> bool {
        self.usage.is_none() && self.bursts < TRIES
    }
}

impl Choice {
    /// A bit each, that of class 1 first.
    pub(super) fn bits(&self) -> u64 {
        self.classes.iter().fold(0, |bits, class| bits | 1_u64.checked_shl(class - 1).unwrap_or(0))
    }

    /// How many allocations of any class passed by while it saw so many of its own.
    pub(super) fn passed(&self, counts: &[(SiteKey, SiteCounts)]) -> f64 {
        self.classes.iter().map(|class| allocations_of(*class, counts)).sum::<f64>() / self.share
    }

    /// The words to watch.
    fn words(&self, usedpools: Addr) -> Vec<Watch> {
        let head = |class: &u32| Watch::Uses(classes::head(usedpools, *class));
        self.classes.iter().map(head).collect()
    }
}

impl Session {
    /// The classes that the next burst of pymalloc watches, and their words; None: it probes functions.
    pub(super) fn classes_to_watch(&self) -> Option<(Choice, Vec<Watch>)> {
        let usedpools = self.target.pymalloc()?.usedpools;
        let growth = self.ledger.class_growth();
        let choice = match &self.by_class {
            Some(by_class) => {
                let blocks =
                    |(class, bytes): (u32, f64)| (class, bytes / (16.0 * f64::from(class)));
                by_class.choose(&growth.into_iter().map(blocks).collect::<Vec<_>>())
            }
            None if self.churn.is_some() => return None,
            None => self.rare.choose(&growth, &self.costs)?,
        };
        let words = choice.words(usedpools);
        Some((choice, words))
    }

    /// Books what a burst saw of pymalloc, those of functions by the classes that they recorded. Where too much escapes
    /// the probes on its functions, the next bursts watch size classes.
    pub(super) fn note_pymalloc(
        &mut self,
        outcome: &Outcome,
        choice: Option<&Choice>,
        recorded: u64,
        counts: &[(SiteKey, SiteCounts)],
    ) {
        if let Some(choice) = choice {
            if let Some(by_class) = &mut self.by_class {
                by_class.book(choice, counts);
                self.ledger.seen_work.passed(choice.bits(), choice.passed(counts));
            } else {
                self.rare.watched(choice);
                self.ledger.seen_work.words(counts);
            }
            return;
        }
        self.rare.passed();
        // Each is made and, sooner or later, freed.
        let allocations = outcome.open_hits() as f64 / 2.0;
        self.ledger.seen_work.functions(recorded, allocations, counts);
        let seen = outcome.counts.get(Counter::PoolEventsSeen);
        let missed = outcome.counts.get(Counter::PoolEventsMissed);
        if self.by_class.is_none()
            && seen + missed >= MEASURABLE
            && (seen as f64) < ENOUGH * (seen + missed) as f64
        {
            tracing::debug!(seen, missed, "pymalloc is inlined: watching size classes");
            self.by_class = Some(ByClass::new());
            // What bursts have seen so far was counted in another way than what is to come.
            self.ledger.seen_work = SeenWork::default();
        }
    }
}

/// Allocations of a class.
fn allocations_of(class: u32, counts: &[(SiteKey, SiteCounts)]) -> f64 {
    let of_it = counts.iter().filter(|(key, _)| key.size_class == class);
    of_it.map(|(_, counts)| counts.allocs as f64).sum()
}

/// How a burst of these classes, or of functions, watches.
pub(super) fn way(choice: Option<&Choice>) -> Way {
    choice
        .map_or(Way::Functions, |choice| Way::Words { classes: choice.bits(), share: choice.share })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst of 1,000 hits on a service that uses each class so often, a request.
    fn burst(by_class: &mut ByClass, growth: &[(u32, f64)], uses: &[(u32, f64)]) -> Choice {
        let choice = by_class.choose(growth);
        let used =
            |class: u32| uses.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, uses)| *uses);
        let total: f64 = choice.classes.iter().map(|class| used(*class)).sum();
        let counts: Vec<(SiteKey, SiteCounts)> = choice
            .classes
            .iter()
            .map(|class| {
                let key = SiteKey { stack: 1, native: 0, domain: 0, size_class: *class };
                let allocs = if total > 0.0 { (1000.0 * used(*class) / total) as u64 } else { 0 };
                (key, SiteCounts { allocs, ..SiteCounts::default() })
            })
            .collect();
        by_class.book(&choice, &counts);
        choice
    }

    #[test]
    fn the_classes_that_pay_have_most_bursts_and_each_has_some() {
        let growth = [(1, 10.0), (2, 11.0), (4, 30.0), (6, 0.0), (9, -5.0)];
        let uses = [(1, 100.0), (2, 1500.0), (4, 300.0)];
        let mut by_class = ByClass::new();
        let choices: Vec<Choice> = (0..17).map(|_| burst(&mut by_class, &growth, &uses)).collect();
        // All at first, to learn how often each is used.
        assert_eq!(choices[0], Choice { classes: vec![4, 2, 1], share: 1.0 });
        let had =
            |classes: &[u32]| choices.iter().filter(|choice| choice.classes == classes).count();
        assert!(had(&[4, 1]) + had(&[1, 4]) >= 12, "{choices:?}");
        assert!(by_class.classes[2].bursts >= 3, "{choices:?}");
        let pays = choices.iter().find(|choice| choice.classes.len() == 2).unwrap();
        assert!((pays.share - 400.0 / 1900.0).abs() < 0.01, "{pays:?}");
    }

    /// Nine classes grow, four can be watched.
    #[test]
    fn each_that_grows_is_tried_first() {
        let growth: Vec<(u32, f64)> = (1..=9).map(|class| (class, f64::from(class))).collect();
        let uses: Vec<(u32, f64)> = (1..=9).map(|class| (class, 100.0)).collect();
        let mut by_class = ByClass::new();
        for _ in 0..3 {
            burst(&mut by_class, &growth, &uses);
        }
        assert!((1..=9).all(|class| by_class.classes[class].usage.is_some()));
    }

    #[test]
    fn a_class_that_grew_once_does_not_take_the_place_of_those_that_leak() {
        let growth = [(4, 900.0), (3, 400.0), (20, 300.0)];
        let uses = [(4, 266.0), (3, 133.0)];
        let mut by_class = ByClass::new();
        for _ in 0..24 {
            burst(&mut by_class, &growth, &uses);
        }
        assert!(by_class.classes[4].bursts >= 20 && by_class.classes[3].bursts >= 20);
    }

    #[test]
    fn bursts_that_see_nothing_change_no_estimate() {
        let growth = [(1, 10.0), (2, 11.0), (4, 30.0)];
        let mut by_class = ByClass::new();
        burst(&mut by_class, &growth, &[(1, 100.0), (2, 1500.0), (4, 300.0)]);
        let usage =
            |by_class: &ByClass| [1, 2, 4].map(|class: usize| by_class.classes[class].usage);
        let before = usage(&by_class);
        for _ in 0..5 {
            burst(&mut by_class, &growth, &[]);
        }
        assert_eq!(usage(&by_class), before);
    }

    #[test]
    fn where_nothing_grows_all_have_their_turn() {
        let growth: Vec<(u32, f64)> = (1..=10).map(|class| (class, 0.0)).collect();
        let mut by_class = ByClass::new();
        for _ in 0..5 {
            assert_eq!(burst(&mut by_class, &growth, &[]).classes.len(), AT_ONCE);
        }
        assert!((1..=10).all(|class| by_class.classes[class].bursts == 2));
    }
}
