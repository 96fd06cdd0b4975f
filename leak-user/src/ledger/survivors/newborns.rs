//! Blocks that outlived their burst, until they are looked at first. Most have gone by then and say no more, so that
//! a few that stay, of very many, are all followed.

use std::collections::{BTreeMap, HashSet};

use super::super::sites::Sites;
use super::BySite;
use super::followed::{Followed, look_at};
use super::look::Looker;
use crate::{
    target::memory::Memory,
    units::{Addr, Nanos},
    verdict::evidence::{Domain, End, SiteId},
};

/// Blocks of one site that are looked at after one burst, and of all sites at one time.
const OF_SITE: usize = 1024;
/// See [`OF_SITE`].
const MAX_BLOCKS: usize = 1 << 15;

/// Bursts at most of which it is remembered when they were; every other one is forgotten then, so that the early ones
/// are thinner.
const MAX_BIRTHS: usize = 1 << 12;

/// The blocks of the latest bursts.
#[derive(Debug, Default)]
pub(super) struct Newborns {
    blocks: Vec<Followed>,
    /// When bursts left blocks of a domain, seconds since the start.
    births: BTreeMap<Domain, Vec<f64>>,
}

impl Newborns {
    /// Takes in a burst's blocks; each stands for those of its site that are not taken.
    pub fn add(
        &mut self,
        looker: &mut Looker,
        memory: &impl Memory,
        start: Nanos,
        sites: &Sites,
        blocks: BySite<'_>,
    ) {
        let mut left: BTreeMap<Domain, f64> = BTreeMap::new();
        for (site, blocks) in blocks {
            let Some(domain) = sites.get(site).map(|site| site.domain) else { continue };
            let room = OF_SITE.min(MAX_BLOCKS.saturating_sub(self.blocks.len()));
            let stands_for = (blocks.len() as f64 / room as f64).max(1.0);
            // The map's order is a hash's: the first are a fair sample.
            for (addr, block) in blocks.into_iter().take(room) {
                if let Some(look) = looker.first(memory, domain, addr, block) {
                    let newborn = Followed::new(site, addr, block, look, start, stands_for);
                    let first = left.entry(domain).or_insert(f64::INFINITY);
                    *first = first.min(newborn.fate.born_s);
                    self.blocks.push(newborn);
                }
            }
        }
        left.into_iter().for_each(|(domain, born_s)| self.born(domain, born_s));
    }

    /// A burst left blocks of this domain.
    fn born(&mut self, domain: Domain, born_s: f64) {
        let births = self.births.entry(domain).or_default();
        births.push(born_s);
        if births.len() > MAX_BIRTHS {
            let mut odd = false;
            births.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    /// A burst saw these go.
    pub fn gone(&mut self, gone: &HashSet<Addr>) {
        for newborn in self.blocks.iter_mut().filter(|newborn| gone.contains(&newborn.addr)) {
            newborn.fate.end = End::Died;
        }
    }

    /// Looks at the blocks whose time has come, or at all (`all`), and gives away those of which it is known by now
    /// whether they live.
    pub fn look(
        &mut self,
        looker: &mut Looker,
        memory: &impl Memory,
        now_s: f64,
        all: bool,
    ) -> Vec<Followed> {
        look_at(looker, memory, &mut self.blocks, now_s, all);
        self.blocks.extract_if(.., |newborn| newborn.was_looked_at(now_s)).collect()
    }

    /// When bursts left blocks, seconds since the start.
    pub fn births(&self) -> impl Iterator<Item = (Domain, f64)> {
        let births = self.births.iter();
        births.flat_map(|(domain, births)| births.iter().map(|born_s| (*domain, *born_s)))
    }

    /// Their sites, as often as they have some.
    pub fn sites(&self) -> impl Iterator<Item = SiteId> {
        self.blocks.iter().map(|newborn| newborn.site)
    }

    /// Follows the blocks of these sites no longer.
    pub fn forget(&mut self, sites: &HashSet<SiteId>) {
        self.blocks.retain(|newborn| !sites.contains(&newborn.site));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{identity::Identifier, testing::FakeMemory};
    use crate::ledger::survivors::Survivors;
    use crate::symbolize::stacks::Stacks;
    use leak_common::keys::{CONTENT_WORDS, LiveBlock, SiteKey, domain};

    /// A burst leaves 500 blocks, of which one stays.
    #[test]
    fn one_that_stays_of_many_is_followed() {
        const BURSTS: u64 = 50;
        let mut survivors = Survivors::new(None, Identifier::without_types(), false);
        let mut sites = Sites::default();
        let site = sites.intern(Domain::Malloc, 0, 0, &Stacks::default());
        let mut memory = FakeMemory::default();
        for burst in 0..BURSTS {
            let first = 0x10_0000 * (burst + 1);
            let born_ns = burst * 1_000_000_000;
            let block = LiveBlock {
                site: SiteKey { stack: 0, native: 0, domain: domain::MALLOC, size_class: 40 },
                size: 72,
                born_ns,
                burst,
                noted_ns: born_ns + 1,
                header: 0,
                content: [0; CONTENT_WORDS],
            };
            memory.map(first, 72);
            let blocks = (0..500).map(|i| (site, Addr(first + 0x100 * i), &block));
            survivors.add(&memory, Nanos(0), &sites, blocks);
            survivors.look(&memory, burst as f64 + 0.5, false);
        }
        let fates = &survivors.fates()[&site];
        assert_eq!(fates.len(), BURSTS as usize);
        assert!(fates.iter().all(|fate| fate.end == End::Alive && fate.weight == 1.0), "{fates:?}");
        assert_eq!(survivors.ended(site), BURSTS * 499);
        assert_eq!(survivors.births().count(), BURSTS as usize);
    }

    #[test]
    fn bursts_without_end_are_remembered_in_bounds() {
        let mut newborns = Newborns::default();
        for burst in 0..20_000 {
            newborns.born(Domain::Pymalloc, f64::from(burst));
        }
        let births: Vec<f64> = newborns.births().map(|(_, born_s)| born_s).collect();
        assert!(births.len() <= MAX_BIRTHS && births.is_sorted(), "{}", births.len());
        assert!(births[0] < 100.0 && births.last() == Some(&19_999.0), "{births:?}");
    }
}
