//! What the watch tier knows of fresh memory, written up.

use super::{
    Session, SessionError,
    report::{Wanted, Writer},
};
use crate::{snapshot::FreshMemory, symbolize::stacks::line_of};

/// Stacks that are reported.
const MOST: usize = 10;

impl Session {
    /// Books the page faults that the kernel has counted by stack, while the stacks are known.
    pub(super) fn book_faults(&mut self) -> Result<(), SessionError> {
        for (stack, faults) in self.tables.take_faults()? {
            self.ledger.fresh.faulted(&self.stacks, stack, faults);
        }
        Ok(())
    }

    /// Where pages were first touched and the heap's break grew, most first.
    ///
    /// # Errors
    /// [`SessionError::Probe`] where the kernel's counts can't be read.
    pub(super) fn fresh_memory(
        &mut self,
        duration_s: f64,
        wanted: &Wanted<'_>,
        writer: &mut Writer,
    ) -> Result<Vec<FreshMemory>, SessionError> {
        self.book_faults()?;
        let sites = self.ledger.fresh.sites(self.faults.bytes_each(self.end));
        let reported = sites
            .iter()
            .filter(|site| line_of(&site.frames).is_none_or(|leaf| (wanted.file)(&leaf.file)))
            .take(MOST)
            .map(|site| FreshMemory {
                bytes_per_s: if duration_s > 0.0 {
                    site.touched.0 as f64 / duration_s
                } else {
                    0.0
                },
                touched_bytes: site.touched.0,
                heap_growth_bytes: site.heap_growth.0,
                stack: writer.stack(&mut self.modules, &site.frames),
            })
            .collect();
        Ok(reported)
    }
}
