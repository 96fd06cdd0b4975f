//! How many of the target's mappings are recorded, and what the process's own map says of them.

use leak_common::counters::Counter;

use super::{Session, SessionError};
use crate::{
    probe::tables::Counts,
    target::process,
    units::{Addr, Nanos},
};

/// Mappings recorded a second: where there are more, they are sampled by bytes. Recording one takes some
/// 3 µs of the target's time.
const PER_SECOND: f64 = 100.0;

/// How often the target maps.
pub(super) struct Pace {
    counts: Counts,
    since: Nanos,
    /// Some mappings were passed over, and so were the ends of others that they may have replaced.
    sampled: bool,
}

impl Pace {
    pub(super) fn new(start: Nanos) -> Self {
        Self { counts: Counts::default(), since: start, sampled: false }
    }
}

/// Mean distance of samples in bytes that leaves so many a second; 0: all.
fn interval(mappings: u64, bytes: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 || mappings as f64 <= PER_SECOND * seconds {
        return 0;
    }
    (bytes as f64 / (PER_SECOND * seconds)) as u64
}

impl Session {
    /// Follows the pace at which the target maps.
    pub(super) fn pace_mappings(&mut self, time: Nanos) -> Result<(), SessionError> {
        let counts = self.tables.counts()?;
        let new = counts.since(&self.pace.counts);
        let seconds = Nanos(time.0.saturating_sub(self.pace.since.0)).seconds();
        let interval = interval(new.get(Counter::Mappings), new.get(Counter::MappedBytes), seconds);
        self.tables.sample_mappings(interval)?;
        let sampled = self.pace.sampled || interval > 0;
        self.pace = Pace { counts, since: time, sampled };
        Ok(())
    }

    /// Mappings whose end was not seen: not in the process's map any more.
    pub(super) fn check_mappings(&mut self, time: Nanos) {
        if !self.pace.sampled {
            return;
        }
        // The target has ended: its mappings with it, which is no news of any of them.
        let Ok(regions) = process::mappings(self.target.pid) else { return };
        self.ledger.check_mappings(time, |addr: Addr| {
            let after = regions.partition_point(|region| region.start <= addr);
            after > 0 && addr < regions[after - 1].end
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_target_is_recorded_whole() {
        assert_eq!(interval(0, 0, 0.25), 0);
        assert_eq!(interval(25, 1 << 30, 0.25), 0);
        assert_eq!(interval(1 << 20, 1 << 40, 0.0), 0);
    }

    #[test]
    fn a_busy_one_is_sampled_at_the_same_pace() {
        // 4,000 mappings of 64 KiB a second: one in 40 is taken, and stands for 40.
        let interval = interval(1_000, 1_000 << 16, 0.25);
        let weight = leak_common::sampling::weight(1 << 16, interval);
        assert!((weight / 40.0 - 1.0).abs() < 0.02, "{weight}");
    }
}
