//! What is read of the target from outside, at intervals: its resident memory, its heap's own counts, what
//! became of the survivors.

use std::time::Instant;

use super::{Session, SessionError};
use crate::{
    clock::{now, thread_time},
    heap::pymalloc::census,
    units::Nanos,
    watch::usage,
};

/// The heap is counted and survivors are looked at so often at most …
const CENSUS_EVERY: Nanos = Nanos(500_000_000);

/// … or at first so often, and then once in so much more of the time that has passed: a few seconds must do for a
/// trend.
const CENSUS_AT_FIRST: Nanos = Nanos(200_000_000);
/// See [`CENSUS_AT_FIRST`].
const CENSUS_OF_PASSED: u64 = 20;

/// … and so rarely that it takes at most one part in so many of a core …
const CENSUS_SHARE: u64 = 200;

/// … or, while everything is traced, when all that the kernel has booked is read as well, in so many …
const EXACT_SHARE: u64 = 10;

/// … but so often in an observation at least: from fewer counts no growth could be told.
const CENSUS_LEAST: u64 = 24;

/// The proportional share is read so often at most: the kernel walks the target's page tables for it.
const PROPORTIONAL_EVERY: Nanos = Nanos(2_000_000_000);

/// … and so rarely that it takes at most one part in so many of the time.
const PROPORTIONAL_SHARE: u64 = 1000;

/// … and not at all where the target could not map memory for longer than this meanwhile.
const PROPORTIONAL_HOLD: Nanos = Nanos(20_000_000);

/// Types whose names are kept for a target that ends.
const MAX_NAMED: usize = 1 << 12;

impl Session {
    /// Counts the heap and looks at survivors, and says when to do so again.
    pub(super) fn take_census(&mut self, time: Nanos) -> Result<(), SessionError> {
        let begun = thread_time();
        self.count_heap(time);
        if self.options.exact {
            self.cut_exact()?;
        }
        let now_s = self.ledger.seconds(time);
        self.look(now_s, false);
        self.name_types();
        let took = Nanos(thread_time().0 - begun.0);
        let share = if self.options.exact { EXACT_SHARE } else { CENSUS_SHARE };
        let passed = Nanos(time.0.saturating_sub(self.start.0));
        let pause = census_pause(took, share, passed, self.options.duration);
        tracing::debug!(took_ms = took.seconds() * 1e3, pause_ms = pause.seconds() * 1e3, "census");
        self.census_due = Nanos(time.0.saturating_add(pause.0));
        Ok(())
    }

    /// Learns the names of types while they can be read: the target may end before the report.
    fn name_types(&mut self) {
        for kind in self.ledger.survivors.types().into_iter().chain(self.ended_types()) {
            if self.named.len() < MAX_NAMED && !self.named.contains_key(&kind) {
                let names = self.names.as_mut();
                let name = names.and_then(|names| names.name(&self.target.memory, kind));
                self.named.insert(kind, name);
            }
        }
    }

    fn count_heap(&mut self, time: Nanos) {
        let Some(pymalloc) = self.target.pymalloc() else { return };
        // Unreadable for a moment (the array of arenas was moving), or the target has ended.
        let Ok(counted) = census(&self.target.memory, &pymalloc) else { return };
        self.ledger.census(time, &counted, pymalloc.arena_size);
        self.census = Some(counted);
    }

    pub(super) fn read_usage(&mut self, time: Nanos) {
        match usage::read(self.target.pid) {
            Ok(usage) if self.is_alive() => self.usage = usage,
            _ => {
                self.target_ended = true;
                return;
            }
        }
        self.ledger.survivors.refresh_arenas(&self.target.memory);
        self.ledger.usage(time, &self.usage);
    }

    /// Would counting the proportional share keep the target waiting too long?
    pub(super) fn share_is_dear(&self) -> bool {
        usage::proportional_hold(self.usage.rss) > PROPORTIONAL_HOLD
    }

    pub(super) fn read_proportional(&mut self, time: Nanos) {
        if self.share_is_dear() {
            return;
        }
        let begun = Instant::now();
        // The target has ended, which the reading of its usage notices.
        let Ok(proportional) = usage::proportional(self.target.pid) else { return };
        self.ledger.proportional(time, proportional);
        let took = begun.elapsed().as_nanos() as u64;
        let pause = PROPORTIONAL_EVERY.0.max(took.saturating_mul(PROPORTIONAL_SHARE));
        self.proportional_due = Nanos(time.0.saturating_add(pause));
    }

    fn look(&mut self, now_s: f64, all: bool) {
        if self.options.exact {
            self.ledger.survivors.look_exact(now_s, |addr| self.tables.block(addr));
        } else {
            self.ledger.survivors.look(&self.target.memory, now_s, all);
        }
    }

    pub(super) fn last_look(&mut self) {
        let time = now();
        self.count_heap(time);
        self.read_usage(time);
        let now_s = self.ledger.seconds(time);
        self.look(now_s, true);
        self.check_mappings(time);
        // The counts of a target that has just ended are as good as those of the look before.
        let _ = self.look_at_gpus(time);
        self.read_proportional(time);
    }
}

/// How long to wait with the next count after one that took so much of a core.
fn census_pause(took: Nanos, share: u64, passed: Nanos, duration: Nanos) -> Nanos {
    let longest = Nanos(duration.0 / CENSUS_LEAST);
    let shortest = Nanos(passed.0 / CENSUS_OF_PASSED).clamp(CENSUS_AT_FIRST, CENSUS_EVERY);
    Nanos(took.0.saturating_mul(share)).min(longest).max(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Nanos {
        Nanos(count * 1_000_000)
    }

    #[test]
    fn counts_are_rare_where_they_are_dear_but_enough_to_tell_growth() {
        let pause =
            |took, seconds: u64| census_pause(took, CENSUS_SHARE, ms(15_000), ms(seconds * 1000));
        assert_eq!(pause(ms(1), 20), CENSUS_EVERY);
        assert_eq!(census_pause(ms(1), CENSUS_SHARE, ms(1_000), ms(20_000)), CENSUS_AT_FIRST);
        assert_eq!(census_pause(ms(1), CENSUS_SHARE, ms(6_000), ms(20_000)), ms(300));
        assert_eq!(pause(ms(3), 20), ms(600));
        // A heap of 10 GB: some two thirds of a second.
        let dear = pause(ms(650), 20);
        assert!(20_000_000_000 / dear.0 >= CENSUS_LEAST, "{dear:?}");
        assert_eq!(pause(ms(650), 3600), ms(130_000));
        assert_eq!(
            census_pause(Nanos(u64::MAX), CENSUS_SHARE, ms(0), Nanos(u64::MAX)).0,
            u64::MAX / CENSUS_LEAST
        );
    }
}
