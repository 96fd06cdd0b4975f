//! Stacks name code objects by their addresses: when one is freed and another takes its place, the same stack means
//! another line.
//!
//! A burst is booked only after the code objects that its stacks refer to have been looked at. One that was read
//! before the look before and is no longer what it was may have been replaced before the burst or after it: its
//! stacks are taken for missing. What nothing refers to can't mislead, and is looked at now and then.
//!
//! What can still be booked to a line that did not allocate it: what a successor allocated in the same moment between
//! two looks in which the code object was read; and mappings and page faults, which are booked as they come, until the
//! next look.

use std::collections::HashSet;

use leak_common::keys::{SiteCounts, SiteKey};

use super::{Session, SessionError};

impl Session {
    /// What is booked to a stack relies on its code objects.
    pub(super) fn refer(&mut self, stack: u64) {
        if let Some(codes) = &mut self.codes {
            codes.refer(self.stacks.codes(stack));
        }
    }

    /// Looks at the code objects that a burst's stacks refer to, before it is booked. Where one has been replaced,
    /// or the stacks are too many, the kernel is to number and send all of them anew.
    pub(super) fn check_codes(
        &mut self,
        counts: &[(SiteKey, SiteCounts)],
    ) -> Result<(), SessionError> {
        // What referred to the generation before has come by now; page faults did until this burst began.
        if self.stacks.has_earlier() {
            self.book_faults()?;
            self.stacks.forget_earlier();
        }
        let stacks: HashSet<u64> = counts.iter().map(|(key, _)| key.stack).collect();
        stacks.into_iter().for_each(|stack| self.refer(stack));
        let Some(codes) = &mut self.codes else { return Ok(()) };
        let replaced = codes.revalidate(&self.target.memory);
        if replaced.all.is_empty() && !self.stacks.is_crowded() {
            return Ok(());
        }
        tracing::debug!(
            replaced = replaced.all.len(),
            doubtful = replaced.doubtful.len(),
            stacks = self.stacks.len(),
            "stacks begin anew"
        );
        self.book_faults()?;
        self.stacks.new_generation(&replaced);
        self.ledger.sites.forget_stacks();
        self.bursts.new_generation();
        Ok(())
    }
}
