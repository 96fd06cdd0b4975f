//! What the watch tier knows of fresh memory, written up.

use super::{
    Session, SessionError,
    report::{Wanted, Writer},
};
use crate::{snapshot::FreshMemory, symbolize::stacks::line_of, units::Bytes};

/// Stacks that are reported.
const MOST: usize = 10;

impl Session {
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
        let each = self.faults.bytes_each(self.end).0;
        let faults = self.tables.faults()?;
        let touched = faults.into_iter().map(|(stack, n)| (stack, Bytes(n.saturating_mul(each))));
        let sites = self.ledger.fresh.sites(&self.stacks, touched);
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
