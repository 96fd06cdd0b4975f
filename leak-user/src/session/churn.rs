//! What is allocated a second, by type; asked for by `leaktrace heap --watch --rates`.
//!
//! Two things are found out apart. **What** it is: of the blocks that bursts see freed, some are told with what they
//! hold, and objects at their end still have their type. **How fast**: that can't be told within such a burst, where
//! probes take most of the time. So bursts of another kind count how often one size class is used, by a data breakpoint
//! that a hundred times as much passes by, and the bursts on functions say how rare that class is. What a hit costs
//! here is found out by counting a class that is used all the time.

use std::collections::{HashMap, VecDeque};

use leak_common::counters::Counter;
use leak_common::keys::{SiteCounts, SiteKey};

use super::by_class::{self, Choice};
use super::{READY_EVERY, Session, SessionError, open};
use crate::collect::decode::Event;
use crate::heap::identity::Identifier;
use crate::heap::rates::{Known, Turnover};
use crate::ledger::seen_work::CLASSES;
use crate::probe::account::Moment;
use crate::probe::budget::Kind;
use crate::probe::burst::{Attachment, Points};
use crate::probe::classes::{self, Watch};
use crate::probe::outcome::Terms;
use crate::units::{Addr, Nanos};

/// Of 2^32 frees that a burst sees: one of four.
const TOLD: u64 = 1 << 30;

/// One burst of pymalloc of so many sees what is allocated; the others find out how fast it goes: in turn by a rare class
/// and by the one that is used most.
const SEES_EVERY: u32 = 3;

/// The part of all allocations that a rare class best takes: of a rarer one, too few were seen to say how rare it is.
const BEST_SHARE: f64 = 0.005;

/// The one that is used all the time must be so many times as frequent.
const LEAST_RATIO: f64 = 4.0;

/// A class of which fewer allocations were seen is not known well enough.
const LEAST_SEEN: f64 = 30.0;

/// Bursts that are remembered.
const MOST_PACED: usize = 256;

/// Nothing is said that may be wrong by more than this part.
const MOST_ERROR: f64 = 0.5;

/// Types that are counted apart.
const MAX_TYPES: usize = 1 << 12;

/// What has been found out so far.
#[derive(Debug)]
pub(super) struct Churn {
    identifier: Identifier,
    bursts: u32,
    /// Allocations by size class, as the bursts on functions saw them.
    seen: [f64; CLASSES],
    /// The latest bursts that counted a class.
    paced: VecDeque<Paced>,
    /// Why it can't be told how fast it goes.
    refused: Option<String>,
    /// Objects that ended, by type.
    ended: HashMap<Addr, u64>,
    /// Blocks that ended and were no objects, or of types for which there was no room.
    others: u64,
}

/// How often a class was used while that was counted.
#[derive(Debug, Clone, Copy)]
struct Paced {
    class: u32,
    /// Uses of its list of pools.
    hits: f64,
    /// Those of them that were allocations.
    allocs: f64,
    seconds: f64,
}

impl Churn {
    pub(super) fn new(identifier: Identifier) -> Self {
        Self {
            identifier,
            bursts: 0,
            seen: [0.0; CLASSES],
            paced: VecDeque::new(),
            refused: None,
            ended: HashMap::new(),
            others: 0,
        }
    }

    /// The class whose use the next burst of pymalloc counts; None: it sees what is allocated.
    fn to_pace(&self) -> Option<u32> {
        if self.refused.is_some() || self.bursts.is_multiple_of(SEES_EVERY) {
            return None;
        }
        let known = (0..).zip(self.seen).filter(|(_, seen)| *seen >= LEAST_SEEN);
        let (most_used, most) = known.clone().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let best = BEST_SHARE * self.all_seen();
        let times = |seen: f64| (seen / best).ln().abs();
        let rare = known.filter(|(_, seen)| seen * LEAST_RATIO <= most);
        let (rare, _) = rare.min_by(|a, b| times(a.1).total_cmp(&times(b.1)))?;
        let is_rares_turn = self.bursts % SEES_EVERY % 2 == 1;
        Some(if is_rares_turn { rare } else { most_used })
    }

    fn all_seen(&self) -> f64 {
        self.seen.iter().sum()
    }

    /// The part of all allocations that a class takes.
    fn share(&self, class: u32) -> f64 {
        let seen = self.seen.get(class as usize).copied().unwrap_or(0.0);
        seen / self.all_seen().max(1.0)
    }

    /// Books a burst that saw what was allocated.
    fn saw(&mut self, counts: &[(SiteKey, SiteCounts)]) {
        self.bursts += 1;
        for (key, counts) in counts {
            if let Some(seen) = self.seen.get_mut(key.size_class as usize) {
                *seen += counts.allocs as f64;
            }
        }
    }

    /// Books one that counted the uses of a class's list of pools, and the writes among them.
    ///
    /// A pool that is full, or empty, is taken out of the list, which is a write, and put back later, which is a read and
    /// a write (`insert_to_usedpool`): all other reads are allocations.
    fn counted(&mut self, class: u32, uses: u64, writes: u64, seconds: f64) {
        self.bursts += 1;
        let (hits, writes) = (uses as f64, writes as f64);
        if self.paced.len() == MOST_PACED {
            self.paced.pop_front();
        }
        self.paced.push_back(Paced {
            class,
            hits,
            allocs: (hits - 1.5 * writes).max(0.0),
            seconds,
        });
    }

    fn blocks_per_s(&self) -> Result<Known, String> {
        match &self.refused {
            Some(refused) => Err(refused.clone()),
            None => self.known().ok_or_else(|| "too little was seen yet".to_owned()),
        }
    }

    /// With the error that is to be expected: by how much each burst matters (the jackknife), and by how often the rarest
    /// class was seen. None where that is most of it.
    fn known(&self) -> Option<Known> {
        let per_s = self.fit(None)?;
        let n = self.paced.len() as f64;
        let without = (0..self.paced.len()).map(|left_out| self.fit(Some(left_out)));
        let without: Vec<f64> = without.collect::<Option<_>>()?;
        let mean = without.iter().sum::<f64>() / n;
        let squares: f64 = without.iter().map(|one| (one - mean).powi(2)).sum();
        let seen = |paced: &Paced| self.seen.get(paced.class as usize).copied().unwrap_or(0.0);
        let rarest = self.paced.iter().map(seen).fold(f64::INFINITY, f64::min);
        let error = (squares * (n - 1.0) / n + per_s * per_s / rarest).sqrt();
        (error < MOST_ERROR * per_s).then_some(Known { per_s, error })
    }

    /// Blocks that are handed out in a second, with one of the bursts left out.
    ///
    /// In a burst that counts a class, a hit takes what it costs and, of the program's own time, what passes from one use
    /// to the next: the longer, the rarer the class. Both are fitted to what the bursts took, by least squares.
    fn fit(&self, left_out: Option<usize>) -> Option<f64> {
        let all = self.all_seen();
        let (mut hits2, mut both, mut gaps2, mut hits_t, mut gaps_t) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (number, Paced { class, hits, allocs, seconds }) in self.paced.iter().enumerate() {
            let seen = self.seen.get(*class as usize).copied().unwrap_or(0.0);
            if Some(number) != left_out && *seconds > 0.0 && seen > 0.0 {
                // Blocks of all classes that went by meanwhile.
                let passed = allocs * all / seen;
                hits2 += hits * hits / seconds;
                both += hits * passed / seconds;
                gaps2 += passed * passed / seconds;
                hits_t += hits;
                gaps_t += passed;
            }
        }
        let determinant = hits2 * gaps2 - both * both;
        let per_block = (hits2 * gaps_t - both * hits_t) / determinant;
        (determinant > 1e-9 * hits2 * gaps2 && per_block > 0.0).then_some(1.0 / per_block)
    }
}

impl Session {
    /// What bursts are for: pymalloc alone, where it is asked what is allocated.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let kinds = self.plan.kinds();
        if self.churn.is_some() && kinds.contains(&Kind::Pymalloc) {
            vec![Kind::Pymalloc]
        } else {
            kinds
        }
    }

    /// For the next burst: see [`leak_common::config::Gate::told`].
    pub(super) fn blocks_to_tell(&self) -> u64 {
        if self.churn.is_some() { TOLD } else { 0 }
    }

    /// The class whose use the next burst is to count; None: it sees what is allocated.
    pub(super) fn class_to_pace(&self) -> Option<u32> {
        self.churn.as_ref().filter(|_| self.by_class.is_none())?.to_pace()
    }

    /// Counts how often a class is used, if the budget allows that; else says how long to wait. What it sees of lines is
    /// no part of the ledger: this class is not one that matters.
    pub(super) fn pace_if_due(
        &mut self,
        class: u32,
        come: Moment,
        events: &mut Vec<Event>,
    ) -> Result<Nanos, SessionError> {
        let (Some(churn), Some(pymalloc)) = (&mut self.churn, self.target.pymalloc()) else {
            return Ok(Nanos(0));
        };
        let choice = Choice { classes: vec![class], share: churn.share(class) };
        let way = by_class::way(Some(&choice));
        let terms = match self.budget.next(Kind::Pymalloc, way, come) {
            Ok(terms) => Terms { skip: 0, ..terms },
            Err(wait) => return Ok(wait),
        };
        if !self.bursts.is_ready() {
            return Ok(READY_EVERY);
        }
        let head = classes::head(pymalloc.usedpools, class);
        let words = [Watch::Uses(head), Watch::Writes(head)];
        let threads = open::threads(self.target.pid);
        let mut at = Attachment {
            object: &mut self.object,
            tables: &mut self.tables,
            ring: &mut self.ring,
            pid: self.target.pid,
            points: Points::Words(&words, &threads),
            events,
        };
        let outcome = match self.bursts.run(&mut at, terms) {
            Ok(outcome) => outcome,
            Err(error) => {
                // There are none in some virtual machines, or a debugger has them.
                churn.refused = Some(format!("data breakpoints were refused ({error})"));
                return Ok(Nanos(0));
            }
        };
        self.tables.take_sites()?;
        self.tables.take_live()?;
        let writes = outcome.counts.get(Counter::HeadWrites);
        let uses = outcome.open_hits().saturating_sub(writes);
        churn.counted(class, uses, writes, outcome.open().seconds());
        tracing::debug!(class, uses, writes, open_ms = outcome.open().seconds() * 1e3, "paced");
        self.budget.book(Kind::Pymalloc, way, come.now, &outcome, &terms);
        self.burst_count += 1;
        self.ring.drain(events);
        self.digest(events);
        Ok(Nanos(0))
    }

    /// Books a burst that saw what is allocated.
    pub(super) fn note_churn(&mut self, counts: &[(SiteKey, SiteCounts)]) {
        if let Some(churn) = &mut self.churn {
            churn.saw(counts);
        }
    }

    /// Books blocks that were told at their end, by their first bytes.
    pub(super) fn note_dying(&mut self, blocks: &[Vec<u8>]) {
        let Some(churn) = &mut self.churn else { return };
        for kind in churn.identifier.at_their_end(&self.target.memory, blocks) {
            let room = churn.ended.len() < MAX_TYPES;
            match kind.filter(|kind| room || churn.ended.contains_key(kind)) {
                Some(kind) => *churn.ended.entry(kind).or_default() += 1,
                None => churn.others += 1,
            }
        }
    }

    /// Types of objects that were seen to end.
    pub(super) fn ended_types(&self) -> Vec<Addr> {
        self.churn.iter().flat_map(|churn| churn.ended.keys().copied()).collect()
    }

    /// What is known of what the target allocates; None where it was not asked for.
    #[must_use]
    pub fn turnover(&self) -> Option<Turnover> {
        let churn = self.churn.as_ref()?;
        let inlined = "this interpreter's build has pymalloc's code in a hundred places, which no probe sees all of";
        let known = self.by_class.is_none();
        let blocks_per_s = if known { churn.blocks_per_s() } else { Err(inlined.to_owned()) };
        let name = |kind: &Addr| {
            let known = self.named.get(kind).and_then(Option::as_deref);
            known.map_or_else(|| kind.to_string(), ToOwned::to_owned)
        };
        let ended = churn.ended.iter().map(|(kind, ended)| (name(kind), *ended)).collect();
        Some(Turnover { blocks_per_s, ended, others: churn.others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::seen_work::counts;

    /// A hit costs 7 µs; each puts its pool back and takes it out again: as many writes as reads.
    fn count(churn: &mut Churn, class: u32, allocs: u64, seen: f64, per_s: f64) {
        let seconds = allocs as f64 * (4.0 * 7e-6 + churn.all_seen() / (per_s * seen));
        churn.counted(class, 4 * allocs, 2 * allocs, seconds);
    }

    #[test]
    fn a_rare_class_says_how_fast_all_go() {
        let mut churn = Churn::new(Identifier::without_types());
        let burst = counts(&[(1, 2), (2, 5000), (3, 2000), (4, 40), (5, 60), (9, 100), (32, 70)]);
        assert_eq!(churn.to_pace(), None);
        churn.saw(&burst);
        // The rarest is too rare to go by.
        assert_eq!(churn.to_pace(), Some(4));
        count(&mut churn, 4, 400, 40.0, 2e6);
        // What a hit costs isn't known yet.
        assert!(churn.blocks_per_s().is_err());
        assert_eq!(churn.to_pace(), Some(2));
        count(&mut churn, 2, 500, 5000.0, 2e6);
        assert_eq!(churn.to_pace(), None);
        churn.saw(&burst);
        assert_eq!(churn.to_pace(), Some(4));
        // By one burst each, nobody knows how sure it is.
        assert!(churn.blocks_per_s().is_err());
        count(&mut churn, 4, 440, 80.0, 2.1e6);
        count(&mut churn, 2, 520, 10_000.0, 2.1e6);
        let Known { per_s, error } = churn.blocks_per_s().unwrap();
        assert!((1.9e6..2.2e6).contains(&per_s) && (1e3..4e5).contains(&error), "{per_s} {error}");
    }

    #[test]
    fn nothing_is_said_by_what_was_never_seen() {
        let mut churn = Churn::new(Identifier::without_types());
        (0..9).for_each(|_| churn.saw(&[]));
        assert_eq!(churn.to_pace(), None);
        (0..9).for_each(|_| churn.counted(7, 5000, 0, 0.1));
        assert!(churn.blocks_per_s().is_err());
    }
}
