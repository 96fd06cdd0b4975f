//! Tracing everything: one burst that lasts as long as the observation.

use leak_common::counters::Counter;

use super::{Session, SessionError};
use crate::{
    clock::now,
    ledger::sites::Sites,
    probe::{
        burst::{Attachment, Points},
        outcome::Outcome,
        plan::Probe,
    },
    symbolize::stacks::Stacks,
    units::Nanos,
};

/// The kernel keeps all sites with their stacks, so that none can be forgotten here: there is room for so many …
const SITES: usize = 1 << 17;

/// … and so many bytes of stacks.
const STACK_BYTES: usize = 160 << 20;

/// What tracing everything will cost the target, estimated from one short burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedCost {
    /// The share of its time that the target will spend in probes, as busy as it is.
    pub share: f64,
    /// Where it is busy all the time, it will run so many times slower.
    pub slowdown: f64,
    /// Allocator calls a second.
    pub calls_per_s: f64,
}

impl ExpectedCost {
    fn of(outcome: &Outcome) -> Self {
        let open = Nanos(outcome.closed.0.saturating_sub(outcome.opened.0)).seconds();
        let spent = outcome.spent.seconds();
        // What was not spent on probes went into the target's own work, and into waiting.
        let own = (open - spent).max(open / 1000.0);
        let hits = outcome.counts.get(Counter::Hits).saturating_sub(outcome.closed_hits());
        Self { share: spent / open, slowdown: open / own, calls_per_s: hits as f64 / own }
    }
}

impl Session {
    /// Runs one burst of each kind and says what tracing everything would cost. None where nothing
    /// can be probed.
    ///
    /// # Errors
    /// [`SessionError::Probe`].
    pub fn expected_cost(&mut self) -> Result<Option<ExpectedCost>, SessionError> {
        let probes = self.all_probes();
        if probes.is_empty() {
            return Ok(None);
        }
        let mut events = Vec::new();
        let terms = self.budget.trial();
        let mut at = Attachment {
            object: &mut self.object,
            tables: &mut self.tables,
            ring: &mut self.ring,
            pid: self.target.pid,
            points: Points::Functions(&probes),
            events: &mut events,
        };
        let outcome = self.bursts.run(&mut at, terms)?;
        self.digest(&mut events);
        self.tables.take_sites()?;
        self.tables.take_live()?;
        self.budget.book_other(&outcome);
        Ok(Some(ExpectedCost::of(&outcome)))
    }

    fn all_probes(&self) -> Vec<Probe> {
        self.plan.pymalloc.iter().chain(&self.plan.malloc).cloned().collect()
    }

    pub(super) fn open_exact(&mut self) -> Result<(), SessionError> {
        self.ledger.sites = Sites::with_room(SITES);
        self.stacks = Stacks::with_room(STACK_BYTES);
        let probes = self.all_probes();
        let terms = self.budget.unlimited();
        self.first_burst.get_or_insert_with(now);
        self.bursts.open(&mut self.object, self.target.pid, Points::Functions(&probes), terms)?;
        self.burst_count = 1;
        Ok(())
    }

    /// A cut: what has been allocated since the last one and still lives is followed from now on.
    /// Frees of followed blocks are seen by the probes.
    pub(super) fn cut_exact(&mut self) -> Result<(), SessionError> {
        self.bursts.renumber()?;
        self.burst_count += 1;
        let counts = self.tables.sites()?;
        let before = self.bursts.current() - 1;
        let blocks = self.tables.live(before)?;
        self.ledger.exact(&self.stacks, &counts, &blocks, before);
        Ok(())
    }

    pub(super) fn close_exact(&mut self) -> Result<(), SessionError> {
        let outcome = self.bursts.close(&self.tables)?;
        let now_s = self.ledger.seconds(now());
        self.ledger.survivors.look_exact(now_s, |addr| self.tables.block(addr));
        self.budget.book_other(&outcome);
        Ok(())
    }
}
