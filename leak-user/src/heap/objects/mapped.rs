//! Memory where objects may be: mapped, to read and to write.

use crate::target::maps::Mapping;
use crate::units::Addr;

/// All of it, by address.
#[derive(Debug, Clone, Default)]
pub struct Mapped {
    stretches: Vec<(u64, u64)>,
    bytes: u64,
}

impl Mapped {
    /// Of a process's mappings, which are sorted.
    #[must_use]
    pub fn new(mappings: &[Mapping]) -> Self {
        let held = mappings.iter().filter(|one| one.readable && one.writable);
        Self::of(held.map(|one| (one.start.0, one.end.0)).collect())
    }

    /// These stretches, sorted: from, to. Those that touch are one: the kernel keeps them apart where advice was given on
    /// a part (`madvise`), and what lies there doesn't.
    pub(in crate::heap) fn of(mut stretches: Vec<(u64, u64)>) -> Self {
        stretches.dedup_by(|next, last| {
            let touch = last.1 == next.0;
            if touch {
                last.1 = next.1;
            }
            touch
        });
        let lengths = stretches.iter().map(|(from, to)| to.saturating_sub(*from));
        let bytes = lengths.fold(0, u64::saturating_add);
        Self { stretches, bytes }
    }

    /// Is it there?
    pub(super) fn holds(&self, addr: Addr) -> bool {
        let after = self.stretches.partition_point(|(from, _)| *from <= addr.0);
        let stretch = after.checked_sub(1).and_then(|at| self.stretches.get(at));
        stretch.is_some_and(|(_, to)| addr.0 < *to)
    }

    /// How much there is from an address on without a gap.
    pub(in crate::heap) fn bytes_from(&self, addr: Addr) -> u64 {
        let after = self.stretches.partition_point(|(from, _)| *from <= addr.0);
        let stretch = after.checked_sub(1).and_then(|at| self.stretches.get(at));
        stretch.map_or(0, |(_, to)| to.saturating_sub(addr.0))
    }

    /// How much: nothing in it is larger.
    pub(in crate::heap) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_not_there() {
        let mapped = Mapped::of(vec![(0x1000, 0x2000), (0x5000, 0x6000)]);
        let holds = |addr| mapped.holds(Addr(addr));
        assert!(holds(0x1000) && holds(0x1fff) && holds(0x5800));
        assert!(!holds(0xfff) && !holds(0x2000) && !holds(0x6000) && !holds(u64::MAX));
        assert_eq!(mapped.bytes(), 0x2000);
        let from = |addr| mapped.bytes_from(Addr(addr));
        assert_eq!([0xfff, 0x1000, 0x1ff8, 0x2000, 0x6000].map(from), [0, 0x1000, 8, 0, 0]);
        let touching = Mapped::of(vec![(0x1000, 0x2000), (0x2000, 0x3000), (0x5000, 0x6000)]);
        assert_eq!((touching.bytes_from(Addr(0x1800)), touching.bytes()), (0x1800, 0x3000));
    }
}
