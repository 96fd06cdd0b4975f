//! Where memory comes from afresh: the first touch of pages and the growth of the heap's break, by
//! Python stack.
//!
//! Both are counted from the first moment to the last and cost next to nothing, so they can name a
//! place where bursts saw too little. What was given back since is in them too.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::{
    symbolize::stacks::{Frame, Stacks},
    units::Bytes,
};

/// Stacks by lines whose growth is booked apart; that of further ones is booked to no stack.
const MAX_STACKS: usize = 1 << 16;

type Frames = Arc<[Frame]>;

/// What was counted, by lines; none: no Python stack, or one that never arrived.
#[derive(Debug, Default)]
pub struct Fresh {
    grown: HashMap<Frames, Grown>,
}

#[derive(Debug, Default)]
struct Grown {
    faults: u64,
    heap: u64,
}

/// What stacks on the same lines took afresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshSite {
    /// The Python stack, innermost frame first; empty where there was none or it never arrived.
    pub frames: Arc<[Frame]>,
    /// Bytes of pages that it was the first to touch.
    pub touched: Bytes,
    /// Bytes by which it moved the break up.
    pub heap_growth: Bytes,
}

impl Fresh {
    /// The break moved up.
    pub fn break_grew(&mut self, stacks: &Stacks, stack: u64, grown: Bytes) {
        let heap = &mut self.of(stacks, stack).heap;
        *heap = heap.saturating_add(grown.0);
    }

    /// So many page faults were seen.
    pub fn faulted(&mut self, stacks: &Stacks, stack: u64, faults: u64) {
        let seen = &mut self.of(stacks, stack).faults;
        *seen = seen.saturating_add(faults);
    }

    fn of(&mut self, stacks: &Stacks, stack: u64) -> &mut Grown {
        let nothing = || Arc::from([]);
        let frames = stacks.get(stack).map_or_else(nothing, |known| known.site);
        let room = self.grown.len() < MAX_STACKS || self.grown.contains_key(&frames);
        self.grown.entry(if room { frames } else { nothing() }).or_default()
    }

    /// All sites, those that touched most first; each fault stands for so many bytes.
    #[must_use]
    pub fn sites(&self, each: Bytes) -> Vec<FreshSite> {
        let site = |(frames, grown): (&Frames, &Grown)| FreshSite {
            frames: Arc::clone(frames),
            touched: Bytes(grown.faults.saturating_mul(each.0)),
            heap_growth: Bytes(grown.heap),
        };
        let mut sites: Vec<FreshSite> = self.grown.iter().map(site).collect();
        // Lines last, so that equals always come in the same order.
        sites.sort_by_cached_key(|site| {
            let lines = site.frames.iter().filter_map(Frame::python);
            let lines: Vec<_> = lines.map(|f| (Arc::clone(&f.file), f.line)).collect();
            (Reverse((site.touched, site.heap_growth)), lines)
        });
        sites
    }
}

#[cfg(test)]
mod tests {
    use leak_common::frame::pack;
    use proptest::prelude::*;

    use super::*;
    use crate::units::Addr;
    use crate::{
        heap::testing::FakeMemory,
        symbolize::{
            code::{CodeCache, Replaced},
            merge::Owners,
            unwind::NativeStack,
        },
        target::layout::layout,
    };

    /// Two stacks on the same lines, since none of their code objects can be read.
    fn stacks() -> Stacks {
        let mut stacks = Stacks::default();
        let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
        for id in [7, 8] {
            stacks.insert(id, &[pack(0x5000, id)], &mut codes, &FakeMemory::default());
        }
        stacks
    }

    fn sums(sites: &[FreshSite]) -> Vec<(usize, u64, u64)> {
        sites.iter().map(|s| (s.frames.len(), s.touched.0, s.heap_growth.0)).collect()
    }

    #[test]
    fn stacks_on_the_same_lines_are_one_site() {
        let (mut fresh, stacks) = (Fresh::default(), stacks());
        for (stack, grown) in [(7, 0x2000), (8, 0x1000), (0, 0x800)] {
            fresh.break_grew(&stacks, stack, Bytes(grown));
        }
        for (stack, faults) in [(7, 100), (8, 20), (0, 50), (99, 1)] {
            fresh.faulted(&stacks, stack, faults);
        }
        assert_eq!(sums(&fresh.sites(Bytes(2))), [(1, 240, 0x3000), (0, 102, 0x800)]);
    }

    #[test]
    fn what_was_counted_outlives_its_stacks() {
        let (mut fresh, mut stacks) = (Fresh::default(), stacks());
        fresh.faulted(&stacks, 7, 5);
        stacks.new_generation(&Replaced::default());
        stacks.forget_earlier();
        fresh.faulted(&stacks, 7, 1);
        assert_eq!(sums(&fresh.sites(Bytes(1))), [(1, 5, 0), (0, 1, 0)]);
    }

    #[test]
    fn hostile_numbers_of_lines_are_survived() {
        let (mut fresh, mut stacks) = (Fresh::default(), Stacks::default());
        for id in 1..=MAX_STACKS as u64 + 10 {
            let native = NativeStack { calls: vec![Addr(1), Addr(id)], whole: true };
            stacks.insert_native(id, 0, &native, &Owners::default(), false, "worker");
            fresh.break_grew(&stacks, id, Bytes(u64::MAX));
        }
        assert_eq!(fresh.grown.len(), MAX_STACKS + 1);
        assert!(fresh.sites(Bytes(1)).iter().all(|site| site.heap_growth.0 == u64::MAX));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(moves in prop::collection::vec(
            (0_u64..12, any::<u32>()), 0..40,
        )) {
            let (mut fresh, stacks) = (Fresh::default(), stacks());
            for (stack, grown) in &moves {
                fresh.break_grew(&stacks, *stack, Bytes((*grown).into()));
                fresh.faulted(&stacks, *stack, 1);
            }
            let grown: u64 = moves.iter().map(|(_, grown)| u64::from(*grown)).sum();
            let sites = fresh.sites(Bytes(1));
            prop_assert_eq!(sites.iter().map(|s| s.heap_growth.0).sum::<u64>(), grown);
            prop_assert_eq!(sites.iter().map(|s| s.touched.0).sum::<u64>(), moves.len() as u64);
            prop_assert!(sites.is_sorted_by(|a, b| a.touched >= b.touched));
        }
    }
}
