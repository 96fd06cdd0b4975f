//! Where memory comes from afresh: the first touch of pages and the growth of the heap's break, by
//! Python stack.
//!
//! Both are counted from the first moment to the last and cost next to nothing, so they can name a
//! place where bursts saw too little. What was given back since is in them too.

use std::{collections::HashMap, sync::Arc};

use crate::{
    symbolize::stacks::{Frame, Stacks},
    units::Bytes,
};

/// Stacks whose growth is booked apart; that of further ones is booked to no stack.
const MAX_STACKS: usize = 1 << 16;

/// The growth of the break by stack id; 0: no Python stack.
#[derive(Debug, Default)]
pub struct Fresh {
    grown: HashMap<u64, u64>,
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
    pub fn break_grew(&mut self, stack: u64, grown: Bytes) {
        let room = self.grown.len() < MAX_STACKS || self.grown.contains_key(&stack);
        let booked = self.grown.entry(if room { stack } else { 0 }).or_default();
        *booked = booked.saturating_add(grown.0);
    }

    /// All sites, those that touched most first; `touched` is by stack id.
    #[must_use]
    pub fn sites(
        &self,
        stacks: &Stacks,
        touched: impl IntoIterator<Item = (u64, Bytes)>,
    ) -> Vec<FreshSite> {
        let mut by_lines: HashMap<Arc<[Frame]>, (u64, u64)> = HashMap::new();
        let mut book = |stack, touched: u64, grown: u64| {
            let frames =
                stacks.get(stack).map_or_else(|| Arc::from([]), |known| Arc::clone(&known.site));
            let site = by_lines.entry(frames).or_default();
            *site = (site.0.saturating_add(touched), site.1.saturating_add(grown));
        };
        touched.into_iter().for_each(|(stack, bytes)| book(stack, bytes.0, 0));
        self.grown.iter().for_each(|(stack, grown)| book(*stack, 0, *grown));
        let mut sites: Vec<FreshSite> = by_lines
            .into_iter()
            .map(|(frames, (touched, grown))| FreshSite {
                frames,
                touched: Bytes(touched),
                heap_growth: Bytes(grown),
            })
            .collect();
        // Lines last, so that equals always come in the same order.
        sites.sort_by(|a, b| {
            let lines = |site: &FreshSite| {
                let lines = site.frames.iter().filter_map(Frame::python);
                lines.map(|f| (Arc::clone(&f.file), f.line)).collect::<Vec<_>>()
            };
            (b.touched, b.heap_growth)
                .cmp(&(a.touched, a.heap_growth))
                .then_with(|| lines(a).cmp(&lines(b)))
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
    use crate::{heap::testing::FakeMemory, symbolize::code::CodeCache, target::layout::layout};

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
        let mut fresh = Fresh::default();
        fresh.break_grew(7, Bytes(0x2000));
        fresh.break_grew(8, Bytes(0x1000));
        fresh.break_grew(0, Bytes(0x800));
        let touched = [(7, Bytes(100)), (8, Bytes(20)), (0, Bytes(50)), (99, Bytes(1))];
        let sites = fresh.sites(&stacks(), touched);
        assert_eq!(sums(&sites), [(1, 120, 0x3000), (0, 51, 0x800)]);
    }

    #[test]
    fn hostile_numbers_of_stacks_are_survived() {
        let mut fresh = Fresh::default();
        for stack in 1..=MAX_STACKS as u64 + 10 {
            fresh.break_grew(stack, Bytes(u64::MAX));
        }
        assert!(fresh.grown.len() <= MAX_STACKS + 1);
        assert_eq!(sums(&fresh.sites(&stacks(), [])), [(0, 0, u64::MAX), (1, 0, u64::MAX)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(moves in prop::collection::vec(
            (0_u64..12, any::<u32>()), 0..40,
        )) {
            let mut fresh = Fresh::default();
            for (stack, grown) in &moves {
                fresh.break_grew(*stack, Bytes((*grown).into()));
            }
            let grown: u64 = moves.iter().map(|(_, grown)| u64::from(*grown)).sum();
            let sites = fresh.sites(&stacks(), moves.iter().map(|m| (m.0, Bytes(1))));
            prop_assert_eq!(sites.iter().map(|s| s.heap_growth.0).sum::<u64>(), grown);
            prop_assert_eq!(sites.iter().map(|s| s.touched.0).sum::<u64>(), moves.len() as u64);
            prop_assert!(sites.is_sorted_by(|a, b| a.touched >= b.touched));
        }
    }
}
