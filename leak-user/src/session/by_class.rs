//! When pymalloc is watched by size class instead of by function, and which classes.

use std::cell::Cell;

use leak_common::counters::Counter;

use super::Session;
use crate::{
    ledger::Ledger,
    probe::{
        burst::Outcome,
        classes::{self, AT_ONCE},
    },
    units::Addr,
};

/// With less of pymalloc's events seen than this, probes on its functions are given up.
const ENOUGH: f64 = 0.9;

/// Events without which a burst says nothing of the coverage.
const MEASURABLE: u64 = 50;

/// Watching by size class.
#[derive(Debug)]
pub(super) struct ByClass {
    usedpools: Addr,
    /// How often each class was watched.
    watched: [Cell<u32>; 33],
}

impl ByClass {
    fn new(usedpools: Addr) -> Self {
        Self { usedpools, watched: std::array::from_fn(|_| Cell::new(0)) }
    }

    /// The words to watch in the next burst: of the classes that grow those that were watched least,
    /// the fastest first; where fewer grow, others that hold blocks.
    pub(super) fn next(&self, ledger: &Ledger) -> Vec<Addr> {
        let mut classes = ledger.class_growth();
        classes.sort_by(|a, b| {
            let times = |class: u32| self.watched[class as usize].get();
            let grows = |growth: f64| growth > 0.0;
            grows(b.1).cmp(&grows(a.1)).then(times(a.0).cmp(&times(b.0))).then(b.1.total_cmp(&a.1))
        });
        classes
            .into_iter()
            .take(AT_ONCE)
            .map(|(class, _)| {
                let times = &self.watched[class as usize];
                times.set(times.get() + 1);
                classes::head(self.usedpools, class)
            })
            .collect()
    }
}

impl Session {
    /// Looks at what a burst saw of pymalloc: where too much escapes the probes on its functions, the
    /// next bursts watch size classes.
    pub(super) fn note_way(&mut self, outcome: &Outcome, words: &[Addr]) {
        let seen = outcome.counts.get(Counter::PoolEventsSeen);
        let missed = outcome.counts.get(Counter::PoolEventsMissed);
        let Some(pymalloc) = &self.target.python.pymalloc else { return };
        if words.is_empty()
            && self.by_class.is_none()
            && seen + missed >= MEASURABLE
            && (seen as f64) < ENOUGH * (seen + missed) as f64
        {
            tracing::debug!(seen, missed, "pymalloc is inlined: watching size classes");
            self.by_class = Some(ByClass::new(pymalloc.usedpools));
        }
    }
}
