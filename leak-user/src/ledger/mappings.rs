//! Mappings made while the target was observed, from the system calls themselves: all of them, or a
//! sample by bytes where the target maps often.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::graveyard::{Followed, Graveyard};
use crate::{
    collect::decode::Region,
    heap::{identity::Kind, retention::Survivor},
    units::{Addr, Bytes, Nanos},
    verdict::evidence::{End, Fate, SiteId},
};

/// Mappings that live: so many at most. More is no process's; records of their ends were lost.
const MAX_LIVE: usize = 1 << 20;

/// The mappings, by address.
#[derive(Debug, Default)]
pub struct Mappings {
    live: BTreeMap<u64, Followed>,
    ended: Graveyard,
    refused: u64,
}

impl Mappings {
    /// A mapping was made; what lay there before is gone.
    pub fn map(&mut self, region: Region, site: SiteId, weight: f64, time: Nanos) {
        self.unmap(region, time);
        if self.live.len() >= MAX_LIVE {
            self.refused += 1;
        } else if region.length.0 > 0 {
            let mapping = Followed { size: region.length, site, weight, born: time };
            self.live.insert(region.start.0, mapping);
        }
    }

    /// A range was unmapped; it may hold many mappings, or cut a piece out of one.
    pub fn unmap(&mut self, region: Region, time: Nanos) {
        let (from, to) = (region.start.0, region.start.0.saturating_add(region.length.0));
        // The one that begins before the range may reach into it.
        if let Some((start, mapping)) = self.live.range(..from).next_back().map(|(s, m)| (*s, *m)) {
            let end = start.saturating_add(mapping.size.0);
            if end > from {
                self.live.insert(start, Followed { size: Bytes(from - start), ..mapping });
                if end > to {
                    self.live.insert(to, Followed { size: Bytes(end - to), ..mapping });
                }
            }
        }
        let inside: Vec<u64> = self.live.range(from..to).map(|(start, _)| *start).collect();
        for start in inside {
            let Some(mapping) = self.live.remove(&start) else { continue };
            let end = start.saturating_add(mapping.size.0);
            if end > to {
                self.live.insert(to, Followed { size: Bytes(end - to), ..mapping });
            } else {
                self.ended.bury(mapping, time);
            }
        }
    }

    /// Mappings of these sites that live, at most so many of each, the lowest first.
    pub fn living(&self, sites: &[SiteId], most: usize) -> HashMap<SiteId, Vec<Survivor>> {
        let mut living: HashMap<SiteId, Vec<Survivor>> =
            sites.iter().map(|site| (*site, Vec::new())).collect();
        for (start, Followed { site, size, .. }) in &self.live {
            if let Some(of_site) = living.get_mut(site).filter(|of| of.len() < most) {
                let kind = Some(Kind::Raw);
                of_site.push(Survivor { addr: Addr(*start), size: *size, kind });
            }
        }
        living
    }

    /// The sites of the living, as often as they have some.
    pub fn sites_alive(&self) -> impl Iterator<Item = SiteId> {
        self.live.values().map(|mapping| mapping.site)
    }

    /// Forgets the dead of these sites.
    pub fn forget(&mut self, sites: &HashSet<SiteId>) {
        self.ended.forget(sites);
    }

    /// Mappings that there was no room for.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The site that made the mapping at an address, and how many it stands for.
    #[must_use]
    pub fn at(&self, addr: Addr) -> Option<(SiteId, f64)> {
        let (start, mapping) = self.live.range(..=addr.0).next_back()?;
        (addr.0 - start < mapping.size.0).then_some((mapping.site, mapping.weight))
    }

    /// Buries those that are not there any more.
    pub fn check(&mut self, is_mapped: impl Fn(Addr) -> bool, time: Nanos) {
        let gone: Vec<u64> =
            self.live.keys().copied().filter(|start| !is_mapped(Addr(*start))).collect();
        for start in gone {
            if let Some(mapping) = self.live.remove(&start) {
                self.ended.bury(mapping, time);
            }
        }
    }

    /// Drops mappings that belong to somebody else's account.
    pub fn disown(&mut self, is_theirs: impl Fn(Addr) -> bool) {
        self.live.retain(|start, _| !is_theirs(Addr(*start)));
    }

    /// Bytes of the mappings that live, and of those that they stand for.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.live.values().map(|mapping| mapping.size.0 as f64 * mapping.weight).sum()
    }

    /// Every mapping's fate.
    pub fn fates<'a>(
        &'a self,
        seconds: impl Fn(Nanos) -> f64 + 'a,
        now_s: f64,
    ) -> Vec<(SiteId, Fate)> {
        let live = self.live.values().map(|mapping| {
            let born_s = seconds(mapping.born);
            (mapping.site, mapping.fate(born_s, now_s, End::Alive))
        });
        let live: Vec<_> = live.collect();
        self.ended.fates(seconds).chain(live).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::graveyard::MAX_DEAD, *};

    fn region(start: u64, length: u64) -> Region {
        Region { start: Addr(start), length: Bytes(length) }
    }

    #[test]
    fn a_piece_cut_out_leaves_two() {
        let mut mappings = Mappings::default();
        mappings.map(region(0x1000, 0x5000), SiteId(1), 1.0, Nanos(1));
        mappings.unmap(region(0x2000, 0x1000), Nanos(2));
        assert_eq!(mappings.bytes(), f64::from(0x4000));
        assert_eq!(mappings.at(Addr(0x1fff)), Some((SiteId(1), 1.0)));
        assert_eq!(mappings.at(Addr(0x2000)), None);
        assert_eq!(mappings.at(Addr(0x3000)), Some((SiteId(1), 1.0)));
        mappings.unmap(region(0, 0x1_0000), Nanos(3));
        assert_eq!(mappings.bytes(), 0.0);
    }

    #[test]
    fn a_new_mapping_takes_the_place_of_the_old() {
        let mut mappings = Mappings::default();
        mappings.map(region(0x1000, 0x1000), SiteId(1), 1.0, Nanos(1));
        mappings.map(region(0x1000, 0x1000), SiteId(2), 1.0, Nanos(2));
        assert_eq!(mappings.bytes(), f64::from(0x1000));
        assert_eq!(mappings.at(Addr(0x1000)), Some((SiteId(2), 1.0)));
        let fates = mappings.fates(Nanos::seconds, 9.0);
        assert_eq!(fates.len(), 2);
        assert_eq!((fates[0].0, fates[0].1.end), (SiteId(1), End::Died));
        assert_eq!((fates[1].0, fates[1].1.end), (SiteId(2), End::Alive));
    }

    #[test]
    fn the_dead_are_many_and_count_all_the_same() {
        let mut mappings = Mappings::default();
        for i in 0..400_000 {
            mappings.map(region(0x1000, 0x1000), SiteId(1), 1.0, Nanos(i));
        }
        let fates = mappings.fates(Nanos::seconds, 9.0);
        assert!(fates.len() <= MAX_DEAD + 1, "{}", fates.len());
        let dead: f64 = fates.iter().filter(|f| f.1.end == End::Died).map(|f| f.1.weight).sum();
        assert!((dead / 400_000.0 - 1.0).abs() < 0.05, "{dead}");
        let late = fates.iter().filter(|f| f.1.born_s > Nanos(300_000).seconds()).count();
        assert!(late * 5 > fates.len(), "{late} of the last quarter");
    }

    #[test]
    fn samples_stand_for_more_and_ends_unseen_are_found() {
        let mut mappings = Mappings::default();
        mappings.map(region(0x1000, 0x1000), SiteId(1), 4.0, Nanos(1));
        mappings.map(region(0x8000, 0x1000), SiteId(2), 8.0, Nanos(1));
        assert_eq!(mappings.bytes(), 12.0 * 4096.0);
        mappings.check(|addr| addr == Addr(0x1000), Nanos(5));
        assert_eq!(mappings.bytes(), 4.0 * 4096.0);
        let fates = mappings.fates(Nanos::seconds, 9.0);
        assert_eq!(
            fates.iter().map(|f| (f.0, f.1.weight, f.1.end)).collect::<Vec<_>>(),
            [(SiteId(2), 8.0, End::Died), (SiteId(1), 4.0, End::Alive),]
        );
    }

    #[test]
    fn the_living_are_bounded_and_the_rest_counted() {
        let mut mappings = Mappings::default();
        for i in 0..MAX_LIVE as u64 + 5 {
            mappings.map(region(i * 0x1000, 0x1000), SiteId(1), 1.0, Nanos(1));
        }
        assert_eq!((mappings.live.len(), mappings.refused()), (MAX_LIVE, 5));
    }

    proptest::proptest! {
        /// The ledger agrees with a page by page model.
        #[test]
        fn agrees_with_pages(steps in proptest::collection::vec((0_u64..40, 1_u64..12, 0_u32..4), 1..60)) {
            let mut mappings = Mappings::default();
            let mut pages = [None; 64];
            for (start, length, site) in steps {
                let r = region(start * 4096, length * 4096);
                let slot = if site == 0 {
                    mappings.unmap(r, Nanos(1));
                    None
                } else {
                    mappings.map(r, SiteId(site), 1.0, Nanos(1));
                    Some(SiteId(site))
                };
                pages[start as usize..(start + length) as usize].fill(slot);
            }
            for (page, site) in (0..).zip(pages) {
                proptest::prop_assert_eq!(mappings.at(Addr(page * 4096 + 7)).map(|at| at.0), site);
            }
        }
    }
}
