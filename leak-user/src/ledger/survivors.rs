//! Follows blocks that outlived their burst, without probes: at growing intervals the allocator's own
//! structures are asked from outside whether the block is still allocated, and its content whether it
//! is still the same.

mod followed;
mod lives;
mod look;
mod newborns;

use std::collections::{HashMap, HashSet};

use leak_common::keys::LiveBlock;

use self::{
    followed::{Followed, look_at},
    lives::Lives,
    look::{Look, Looker},
    newborns::Newborns,
};
use super::{sites::Sites, thinning::Thinning};
use crate::{
    heap::{
        identity::{Identifier, Kind},
        pymalloc::Blocks,
        retention::Survivor,
    },
    target::memory::Memory,
    units::{Addr, Nanos},
    verdict::evidence::{Domain, End, Fate, SiteId},
};

/// Blocks of one site followed from one reading while everything is traced and the site is young.
const PER_READING: usize = 64;

/// With so many blocks followed already, a site gets half as many new ones from a reading.
const HALVED_AT: usize = 256;

/// Followed blocks of one site at most, dead ones included; see [`Thinning`].
const MAX_OF_SITE: usize = 1024;

/// Followed blocks of all sites at most: some 8 MB. Twice as many while a burst is taken in.
const MAX_FOLLOWED: usize = 1 << 16;

const _: () = assert!(MAX_FOLLOWED * size_of::<Followed>() <= 8 << 20);

/// How much of a site is followed.
#[derive(Debug)]
struct Sample {
    held: usize,
    thinning: Thinning,
    lives: Lives,
    /// Blocks that had gone when they were looked at first.
    ended: u64,
}

/// The followed blocks.
pub struct Survivors {
    followed: Vec<Followed>,
    newborns: Newborns,
    by_site: HashMap<SiteId, Sample>,
    /// [`MAX_OF_SITE`], or less where there are too many sites for that.
    max_of_site: usize,
    looker: Looker,
    /// What the next burst watches.
    watched: HashSet<Addr>,
}

impl Survivors {
    /// `blocks`: pymalloc's, where it is in use; `glibc`: the blocks of malloc are glibc's chunks.
    #[must_use]
    pub fn new(blocks: Option<Blocks>, identifier: Identifier, glibc: bool) -> Self {
        Self {
            followed: Vec::new(),
            newborns: Newborns::default(),
            by_site: HashMap::new(),
            max_of_site: MAX_OF_SITE,
            looker: Looker::new(blocks, identifier, glibc),
            watched: HashSet::new(),
        }
    }

    /// Living blocks that bursts should see go, at most so many of each: the youngest of malloc, and the oldest of
    /// pymalloc, on which an accusation rests. All of a site's, for those that nobody watches would be taken for alive
    /// where a like text lies in their place.
    #[must_use]
    pub fn to_watch(&mut self, most: usize) -> HashSet<Addr> {
        let chunks = self.followed.iter().rev().filter(|followed| followed.may_be_another());
        let small = self.followed.iter().filter(|f| f.fate.end == End::Alive && f.look.is_small());
        let chosen = chunks.take(most).chain(small.take(most));
        self.watched = chosen.map(|followed| followed.addr).collect();
        self.watched.clone()
    }

    /// A burst saw these go, of those that it was to watch; `malloc_s`: for so many seconds it recorded, if that was
    /// malloc's.
    pub fn gone(&mut self, gone: &HashSet<Addr>, malloc_s: Option<f64>) {
        if malloc_s.is_none() && gone.is_empty() {
            return;
        }
        self.newborns.gone(gone);
        for followed in self.followed.iter_mut().filter(|f| f.fate.end == End::Alive) {
            let went = gone.contains(&followed.addr);
            let was_watched = followed.may_be_another() && self.watched.contains(&followed.addr);
            if let Some(recorded_s) = malloc_s.filter(|_| was_watched)
                && let Some(sample) = self.by_site.get_mut(&followed.site)
            {
                sample.lives.watched(recorded_s, went);
            }
            if went {
                followed.fate.end = End::Died;
            }
        }
    }

    /// Is the address in one of pymalloc's arenas, as of the latest look?
    #[must_use]
    pub fn in_arena(&self, addr: Addr) -> bool {
        self.looker.in_arena(addr)
    }

    /// Reads pymalloc's arenas anew.
    pub fn refresh_arenas<M: Memory>(&mut self, memory: &M) {
        self.looker.refresh_arenas(memory);
    }

    /// Learns from blocks that were just seen freed how the C library marks free chunks.
    pub fn learn_freed<M: Memory>(&mut self, memory: &M, freed: &[Addr]) {
        self.looker.learn_freed(memory, freed);
    }

    /// Takes in a burst's blocks, to follow those that live when they are looked at first; each stands for those of
    /// its site that are not taken.
    pub fn add<'a, M: Memory>(
        &mut self,
        memory: &M,
        start: Nanos,
        sites: &Sites,
        blocks: impl Iterator<Item = (SiteId, Addr, &'a LiveBlock)>,
    ) {
        self.newborns.add(&mut self.looker, memory, start, sites, group(blocks));
    }

    /// The same while everything is traced: the probes will tell when a block dies. Returns the sites
    /// that had blocks.
    pub fn add_exact<'a>(
        &mut self,
        start: Nanos,
        blocks: impl Iterator<Item = (SiteId, Addr, &'a LiveBlock)>,
    ) -> Vec<SiteId> {
        let by_site = group(blocks);
        let sites = by_site.keys().copied().collect();
        for (site, blocks) in by_site {
            let (quota, stands_for) = self.quota(site, blocks.len());
            for (addr, block) in blocks.into_iter().take(quota) {
                let look = Look::Probes(block.born_ns);
                self.follow(Followed::new(site, addr, block, look, start, stands_for));
            }
            self.make_room_if_doubled();
        }
        self.make_room();
        sites
    }

    fn sample(&mut self, site: SiteId) -> &mut Sample {
        let new = || Sample {
            held: 0,
            thinning: Thinning::seeded(site.0.into()),
            lives: Lives::default(),
            ended: 0,
        };
        self.by_site.entry(site).or_insert_with(new)
    }

    /// How many of a site's `n` new blocks are looked at, and how many each of them stands for.
    fn quota(&mut self, site: SiteId, n: usize) -> (usize, f64) {
        let quota = PER_READING * HALVED_AT / (HALVED_AT + self.sample(site).held);
        (quota, (n as f64 / quota as f64).max(1.0))
    }

    fn make_room_if_doubled(&mut self) {
        if self.followed.len() > 2 * MAX_FOLLOWED {
            self.make_room();
        }
    }

    /// Thins out what is followed of sites that have too much, and of the largest where all have too
    /// much together.
    fn make_room(&mut self) {
        if self.by_site.values().any(|sample| sample.held > self.max_of_site) {
            self.halve_over(self.max_of_site);
        }
        while self.followed.len() > MAX_FOLLOWED && self.max_of_site > 1 {
            self.max_of_site /= 2;
            self.halve_over(self.max_of_site);
        }
    }

    fn halve_over(&mut self, most: usize) {
        let chosen = self.by_site.iter_mut().filter(|(_, sample)| sample.held > most);
        let mut chosen: HashMap<SiteId, &mut Sample> = chosen.map(|(site, s)| (*site, s)).collect();
        chosen.values_mut().for_each(|sample| sample.thinning.halve());
        self.followed.retain_mut(|followed| {
            let Some(sample) = chosen.get_mut(&followed.site) else { return true };
            followed.fate.weight *= 2.0;
            let stays = sample.thinning.stays();
            sample.held -= usize::from(!stays);
            stays
        });
    }

    fn follow(&mut self, mut followed: Followed) {
        let sample = self.sample(followed.site);
        if !sample.thinning.admits() {
            return;
        }
        sample.held += 1;
        followed.fate.weight *= sample.thinning.weight();
        self.followed.push(followed);
    }

    /// Looks at the blocks whose time has come, or at all that live (`all`).
    pub fn look<M: Memory>(&mut self, memory: &M, now_s: f64, all: bool) {
        look_at(&mut self.looker, memory, &mut self.followed, now_s, all);
        for newborn in self.newborns.look(&mut self.looker, memory, now_s, all) {
            if newborn.fate.end == End::Alive {
                self.follow(newborn);
                self.make_room_if_doubled();
            } else {
                self.sample(newborn.site).ended += 1;
            }
        }
        self.make_room();
    }

    /// Looks at the blocks while everything is traced: `block` gives what the probes have booked at an
    /// address.
    pub fn look_exact(&mut self, now_s: f64, block: impl Fn(Addr) -> Option<LiveBlock>) {
        for followed in self.followed.iter_mut().filter(|f| f.fate.end == End::Alive) {
            if let Look::Probes(born_ns) = followed.look {
                let same = block(followed.addr).is_some_and(|block| block.born_ns == born_ns);
                followed.ended(if same { End::Alive } else { End::Died }, now_s);
            }
        }
    }

    /// The sites of those that live, or may do so, as often as they have some.
    pub fn sites_alive(&self) -> impl Iterator<Item = SiteId> {
        let living = self.followed.iter().filter(|followed| followed.fate.end != End::Died);
        living.map(|followed| followed.site).chain(self.newborns.sites())
    }

    /// Follows the blocks of these sites no longer.
    pub fn forget(&mut self, sites: &HashSet<SiteId>) {
        self.followed.retain(|followed| !sites.contains(&followed.site));
        self.newborns.forget(sites);
        self.by_site.retain(|site, _| !sites.contains(site));
    }

    /// When bursts left blocks, seconds since the start.
    pub fn births(&self) -> impl Iterator<Item = (Domain, f64)> {
        self.newborns.births()
    }

    /// Blocks of a site that had gone when they were looked at first.
    #[must_use]
    pub fn ended(&self, site: SiteId) -> u64 {
        self.by_site.get(&site).map_or(0, |sample| sample.ended)
    }

    /// All fates by site.
    #[must_use]
    pub fn fates(&self) -> HashMap<SiteId, Vec<Fate>> {
        let mut fates: HashMap<SiteId, Vec<Fate>> = HashMap::new();
        for followed in &self.followed {
            let mut fate = followed.fate;
            let sample = self.by_site.get(&followed.site).filter(|_| followed.may_be_another());
            let credible_s = sample.map_or(f64::INFINITY, |sample| sample.lives.credible_age_s());
            if fate.alive_until_s - fate.born_s > credible_s {
                fate.alive_until_s = fate.born_s + credible_s;
                fate.end = End::Unknown;
            }
            fates.entry(followed.site).or_default().push(fate);
        }
        fates
    }

    /// How much of each site's living blocks is of one of these types, or a dict's smallest table: what Python hands on
    /// without the allocator; 0 to 1, by weight. Sites that have none are left out.
    #[must_use]
    pub fn recycled(&self, types: &[Addr]) -> HashMap<SiteId, f64> {
        let mut weights: HashMap<SiteId, (f64, f64)> = HashMap::new();
        for followed in self.followed.iter().filter(|f| f.fate.end == End::Alive) {
            let (of_them, all) = weights.entry(followed.site).or_default();
            *all += followed.fate.weight;
            let is_handed_on = match followed.look.kind() {
                Some(Kind::Object { type_addr, .. }) => types.contains(&type_addr),
                Some(Kind::Table) => true,
                Some(Kind::Raw) | None => false,
            };
            if is_handed_on {
                *of_them += followed.fate.weight;
            }
        }
        weights.retain(|_, (of_them, _)| *of_them > 0.0);
        weights.into_iter().map(|(site, (of_them, all))| (site, of_them / all)).collect()
    }

    /// The types of all living blocks.
    #[must_use]
    pub fn types(&self) -> HashSet<Addr> {
        let living = self.followed.iter().filter(|f| f.fate.end == End::Alive);
        living.filter_map(|followed| followed.look.type_addr()).collect()
    }

    /// Living blocks of these sites, at most so many of each, the oldest first.
    #[must_use]
    pub fn living(&self, sites: &[SiteId], most: usize) -> HashMap<SiteId, Vec<Survivor>> {
        let mut living: HashMap<SiteId, Vec<Survivor>> =
            sites.iter().map(|site| (*site, Vec::new())).collect();
        for followed in self.followed.iter().filter(|f| f.fate.end == End::Alive) {
            if let Some(of_site) = living.get_mut(&followed.site).filter(|of| of.len() < most) {
                let Followed { addr, look, fate, .. } = followed;
                of_site.push(Survivor { addr: *addr, size: fate.size, kind: look.kind() });
            }
        }
        living
    }

    /// What the living blocks of these sites are.
    #[must_use]
    pub fn kinds(&self, sites: impl IntoIterator<Item = SiteId>) -> HashMap<SiteId, Kinds> {
        let mut kinds: HashMap<SiteId, Kinds> =
            sites.into_iter().map(|site| (site, Kinds::new())).collect();
        for followed in self.followed.iter().filter(|f| f.fate.end == End::Alive) {
            if let Some(kinds) = kinds.get_mut(&followed.site) {
                *kinds.entry(followed.look.type_addr()).or_default() += followed.fate.weight;
            }
        }
        kinds
    }
}

/// Blocks by the address of their type, with their weights; None: not an object.
pub type Kinds = HashMap<Option<Addr>, f64>;

type BySite<'a> = HashMap<SiteId, Vec<(Addr, &'a LiveBlock)>>;

fn group<'a>(blocks: impl Iterator<Item = (SiteId, Addr, &'a LiveBlock)>) -> BySite<'a> {
    let mut by_site = BySite::new();
    for (site, addr, block) in blocks {
        by_site.entry(site).or_default().push((addr, block));
    }
    by_site
}

#[cfg(test)]
#[path = "survivors_tests.rs"]
mod tests;
