//! All that is known of the target's memory while it is observed; the one owner of that state.
//!
//! Bursts, mappings and counts go in, [`Evidence`] comes out. What becomes of the blocks that outlive
//! their burst is followed from outside, by [`survivors`].

pub mod devices;
pub mod fresh;
pub mod graveyard;
pub mod mappings;
mod parts;
pub mod seen_work;
pub mod series;
pub mod sites;
pub mod survivors;
pub mod thinning;

use std::collections::{HashMap, HashSet};

use leak_common::keys::{LiveBlock, SiteCounts, SiteKey, domain};

use crate::{
    collect::decode::{Origin, Region},
    heap::{pymalloc::Census, retention::Survivor},
    symbolize::stacks::Stacks,
    target::memory::Memory,
    units::{Addr, Bytes, Nanos},
    verdict::{
        evidence::{ClassSeries, Domain, Evidence, Fate, SiteEvidence, SiteId},
        share,
    },
    watch::usage::Usage,
};
use devices::Devices;
use fresh::Fresh;
use mappings::Mappings;
use seen_work::SeenWork;
use series::Recorder;
use sites::Sites;
use survivors::Survivors;

/// Which allocator a burst watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// pymalloc.
    Pymalloc,
    /// The C library's heap.
    Malloc,
}

/// The ledger.
pub struct Ledger {
    start: Nanos,
    /// The sites.
    pub sites: Sites,
    /// The followed blocks.
    pub survivors: Survivors,
    /// Where memory comes from afresh.
    pub fresh: Fresh,
    /// Memory of GPUs.
    pub devices: Devices,
    /// torch's allocator has told of its blocks, so that its segments are not counted beside them.
    pub follows_tensors: bool,
    mappings: Mappings,
    free_listed: Vec<Addr>,
    classes: Vec<Recorder>,
    /// See [`ClassSeries::seen_work`].
    pub seen_work: SeenWork,
    rss: Recorder,
    pss: Recorder,
    anonymous: Recorder,
    arenas: Recorder,
    mapped: Recorder,
    device: Recorder,
    tensors: Recorder,
    pymalloc_bursts: u32,
    malloc_bursts: u32,
    /// Allocations recorded in bursts.
    pub allocations: u64,
}

impl Ledger {
    /// An empty ledger; times count from `start`. `free_listed`: the types whose dead objects Python hands
    /// out again without a call of the allocator.
    #[must_use]
    pub fn new(start: Nanos, survivors: Survivors, free_listed: Vec<Addr>) -> Self {
        Self {
            start,
            sites: Sites::default(),
            survivors,
            fresh: Fresh::default(),
            devices: Devices::default(),
            follows_tensors: false,
            mappings: Mappings::default(),
            free_listed,
            classes: (0..=32).map(|_| Recorder::default()).collect(),
            seen_work: SeenWork::default(),
            rss: Recorder::default(),
            pss: Recorder::default(),
            anonymous: Recorder::default(),
            arenas: Recorder::default(),
            mapped: Recorder::default(),
            device: Recorder::default(),
            tensors: Recorder::default(),
            pymalloc_bursts: 0,
            malloc_bursts: 0,
            allocations: 0,
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self, time: Nanos) -> f64 {
        Nanos(time.0.saturating_sub(self.start.0)).seconds()
    }

    /// Books what a burst saw, and follows a sample of the blocks that outlived it.
    pub fn burst<M: Memory>(
        &mut self,
        memory: &M,
        stacks: &Stacks,
        watched: Watched,
        counts: &[(SiteKey, SiteCounts)],
        blocks: &[(Addr, LiveBlock)],
    ) {
        self.pymalloc_bursts += u32::from(watched != Watched::Malloc);
        self.malloc_bursts += u32::from(watched != Watched::Pymalloc);
        self.make_room();
        self.sites.begin_burst();
        let mut seen: HashSet<SiteId> = HashSet::new();
        let mut ids: HashMap<SiteKey, SiteId> = HashMap::new();
        for (key, counts) in counts {
            let Some(id) = self.site(stacks, key) else { continue };
            ids.insert(*key, id);
            self.allocations += counts.allocs;
            self.sites.count(id, key.size_class, counts);
            if counts.allocs > 0 && seen.insert(id) {
                self.sites.allocated(id);
            }
        }
        let owned = blocks.iter().filter_map(|(addr, block)| {
            let id = *ids.get(&block.site)?;
            Some((id, *addr, block))
        });
        let start = self.start;
        self.survivors.add(memory, start, &self.sites, owned);
    }

    /// Books what has been seen since everything is traced (`counts` count from its beginning), and
    /// follows a sample of the blocks that burst `number` recorded and that still live.
    pub fn exact(
        &mut self,
        stacks: &Stacks,
        counts: &[(SiteKey, SiteCounts)],
        blocks: &[(Addr, LiveBlock)],
        number: u64,
    ) {
        self.pymalloc_bursts += 1;
        self.malloc_bursts += 1;
        self.allocations = counts.iter().map(|(_, counts)| counts.allocs).sum();
        self.sites.reset_counts();
        self.seen_work.all();
        let mut ids: HashMap<SiteKey, SiteId> = HashMap::new();
        for (key, counts) in counts {
            let Some(id) = self.site(stacks, key) else { continue };
            ids.insert(*key, id);
            self.sites.count(id, key.size_class, counts);
        }
        let new = blocks.iter().filter(|(_, block)| block.burst == number);
        let owned = new.filter_map(|(addr, block)| Some((*ids.get(&block.site)?, *addr, block)));
        let start = self.start;
        let born_in: HashSet<SiteId> = self.survivors.add_exact(start, owned).into_iter().collect();
        for id in born_in {
            self.sites.allocated(id);
        }
    }

    /// Where there are too many sites, forgets those that can hardly matter, and the fates of their blocks.
    fn make_room(&mut self) {
        if !self.sites.is_full() {
            return;
        }
        let alive = self.survivors.sites_alive().chain(self.mappings.sites_alive());
        let alive = alive.chain(self.devices.sites_alive()).collect();
        let forgotten = self.sites.forget_idle(&alive);
        self.survivors.forget(&forgotten);
        self.mappings.forget(&forgotten);
        self.devices.forget(&forgotten);
    }

    fn site(&mut self, stacks: &Stacks, key: &SiteKey) -> Option<SiteId> {
        let domain = match key.domain {
            domain::PYMALLOC => Domain::Pymalloc,
            domain::MALLOC => Domain::Malloc,
            _ => return None,
        };
        Some(self.sites.intern(domain, key.stack, key.native, stacks))
    }

    /// A mapping was made; it stands for `weight` of them.
    pub fn mapped(&mut self, stacks: &Stacks, region: Region, weight: f64, origin: Origin) {
        let site = self.sites.intern(Domain::Mmap, origin.stack, origin.native, stacks);
        self.sites.saw(site);
        self.mappings.map(region, site, weight, origin.time);
    }

    /// Mappings whose end was not seen have ended by now.
    pub fn check_mappings(&mut self, time: Nanos, is_mapped: impl Fn(Addr) -> bool) {
        self.mappings.check(is_mapped, time);
    }

    /// A range was unmapped.
    pub fn unmapped(&mut self, region: Region, time: Nanos) {
        self.mappings.unmap(region, time);
    }

    /// A mapping moved or changed its size.
    pub fn remapped(&mut self, stacks: &Stacks, old: Region, new: Region, origin: Origin) {
        let known = self.mappings.at(old.start);
        self.mappings.unmap(old, origin.time);
        let (site, weight) = known.unwrap_or_else(|| {
            (self.sites.intern(Domain::Mmap, origin.stack, origin.native, stacks), 1.0)
        });
        self.mappings.map(new, site, weight, origin.time);
    }

    /// Some of what lives of each of these sites: blocks, or where there are none, mappings.
    #[must_use]
    pub fn living(&self, sites: &[SiteId], most: usize) -> Vec<Vec<Survivor>> {
        let mut blocks = self.survivors.living(sites, most);
        let mut mapped = self.mappings.living(sites, most);
        let of = |site: &SiteId| {
            let found = blocks.remove(site).filter(|found| !found.is_empty());
            found.or_else(|| mapped.remove(site)).unwrap_or_default()
        };
        sites.iter().map(of).collect()
    }

    /// Books the process's memory, and what mappings hold that are not pymalloc's arenas.
    pub fn usage(&mut self, time: Nanos, usage: &Usage) {
        let at = self.seconds(time);
        let survivors = &self.survivors;
        self.mappings.disown(|addr| survivors.in_arena(addr));
        self.rss.add(at, usage.rss.0 as f64);
        self.anonymous.add(at, usage.anonymous.0 as f64);
        self.mapped.add(at, self.mappings.bytes());
    }

    /// The site of a call of a GPU's library, or of a tensor.
    pub fn device_site(
        &mut self,
        stacks: &Stacks,
        domain: Domain,
        stack: u64,
        native: u64,
    ) -> SiteId {
        let site = self.sites.intern(domain, stack, native, stacks);
        self.sites.saw(site);
        site
    }

    /// Books what GPU calls handed out and is still held, and what torch's allocator says that it has handed out,
    /// where it has said so.
    pub fn device_usage(&mut self, time: Nanos, tensors: Option<Bytes>) {
        let at = self.seconds(time);
        if let Some(tensors) = tensors {
            if !self.follows_tensors {
                // What was counted with its segments is no measure for what comes.
                self.follows_tensors = true;
                self.device = Recorder::default();
            }
            self.tensors.add(at, tensors.0 as f64);
        }
        self.device.add(at, self.devices.bytes(!self.follows_tensors));
    }

    /// What GPU calls handed out over time, and torch's allocator.
    #[must_use]
    pub fn devices_grown(&self) -> [&Recorder; 2] {
        [&self.device, &self.tensors]
    }

    /// Books the process's proportional share.
    pub fn proportional(&mut self, time: Nanos, bytes: Bytes) {
        self.pss.add(self.seconds(time), bytes.0 as f64);
    }

    /// The proportional share over time.
    #[must_use]
    pub fn pss(&self) -> &Recorder {
        &self.pss
    }

    /// Books pymalloc's own counts.
    pub fn census(&mut self, time: Nanos, census: &Census, arena_size: u64) {
        let at = self.seconds(time);
        for (class, live) in self.classes.iter_mut().zip(census.live) {
            class.add(at, live as f64);
        }
        self.arenas.add(at, (census.arenas * arena_size) as f64);
    }

    /// Mappings that there was no room for.
    #[must_use]
    pub fn refused_mappings(&self) -> u64 {
        self.mappings.refused()
    }

    /// The size classes that hold blocks, and by how many bytes each has grown so far.
    #[must_use]
    pub fn class_growth(&self) -> Vec<(u32, f64)> {
        let grown = |class: &Recorder| Some(class.last()? - class.first()?);
        (0..)
            .zip(&self.classes)
            .skip(1)
            .filter(|(_, class)| class.is_ever_positive())
            .map(|(size_class, class)| {
                (size_class, grown(class).unwrap_or(0.0) * 16.0 * f64::from(size_class))
            })
            .collect()
    }

    /// Has a size class of pymalloc's, or other anonymous memory, grown of late by half of what matters in a verdict?
    #[must_use]
    pub fn has_grown_lately(&self) -> bool {
        let class = |(size_class, class): (u32, &Recorder)| {
            class.grown_lately() * 16.0 * f64::from(size_class) >= share::PYMALLOC_FLOOR / 2.0
        };
        (0..).zip(&self.classes).any(class)
            || self.anonymous.grown_lately() >= share::RESIDENT_FLOOR / 2.0
    }

    /// What pymalloc's and the C library's heap deserve of the attention (`parts::of`), by their growth of late:
    /// mappings made at once at a start, much of which may never be touched, say nothing of it.
    #[must_use]
    pub fn parts(&self) -> [f64; 2] {
        let bytes = |(size_class, class): (u32, &Recorder)| {
            class.grown_lately() * 16.0 * f64::from(size_class)
        };
        parts::of(parts::Growth {
            small: (0..).zip(&self.classes).map(bytes).sum(),
            anonymous: self.anonymous.grown_lately(),
            arenas: self.arenas.grown_lately(),
            mapped: self.mapped.grown_lately(),
        })
    }

    /// The latest value of RSS and its first.
    #[must_use]
    pub fn rss_range(&self) -> Option<(f64, f64)> {
        Some((self.rss.first()?, self.rss.last()?))
    }

    /// Everything as numbers, for the verdict.
    #[must_use]
    pub fn evidence(&self, now: Nanos, coverage: Option<f64>, lost: u64) -> Evidence {
        let mut fates: HashMap<SiteId, Vec<Fate>> = self.survivors.fates();
        let end = self.seconds(now);
        for (site, fate) in self.mappings.fates(|time| self.seconds(time), end) {
            fates.entry(site).or_default().push(fate);
        }
        let devices = self.devices.fates(|time| self.seconds(time), end, !self.follows_tensors);
        for (site, fate) in devices {
            fates.entry(site).or_default().push(fate);
        }
        let mut recycled = self.survivors.recycled(&self.free_listed);
        let sites = self
            .sites
            .iter()
            .map(|(id, site)| {
                let followed = fates.remove(&id).unwrap_or_default();
                SiteEvidence {
                    id,
                    domain: site.domain,
                    lines: site.lines,
                    classes: site.classes.clone(),
                    bursts: site.bursts,
                    followed,
                    recycled: recycled.remove(&id).unwrap_or(0.0),
                    ended: self.devices.ended(id) + self.survivors.ended(id),
                }
            })
            .filter(|site| !site.classes.is_empty() || !site.followed.is_empty())
            .collect();
        Evidence {
            duration_s: end,
            pymalloc_bursts: self.pymalloc_bursts,
            malloc_bursts: self.malloc_bursts,
            pymalloc_classes: (0..)
                .zip(&self.classes)
                .skip(1)
                .filter(|(_, class)| class.is_ever_positive())
                .map(|(size_class, class)| ClassSeries {
                    size_class,
                    live: class.series(),
                    seen_work: self.seen_work.of(size_class),
                })
                .collect(),
            rss: self.rss.series(),
            anonymous: self.anonymous.series(),
            arenas: self.arenas.series(),
            mapped: self.mapped.series(),
            device: self.device.series(),
            tensors: self.tensors.series(),
            sites,
            births: self.survivors.births().collect(),
            coverage,
            lost: lost + self.mappings.refused() + self.devices.physical.refused,
        }
    }
}

/// Rounds bytes of a block up to what its class holds.
#[must_use]
pub(crate) fn block_bytes(size: u64, size_class: u32) -> Bytes {
    Bytes(if size_class <= 32 { u64::from(size_class) * 16 } else { size })
}
