//! Follows blocks that outlived their burst, without probes: at growing intervals the allocator's own
//! structures are asked from outside whether the block is still allocated, and its content whether it
//! is still the same.

use std::collections::{HashMap, HashSet};

use leak_common::keys::LiveBlock;

use super::{block_bytes, sites::Sites, thinning::Thinning};
use crate::{
    heap::{
        glibc::{ChunkSeen, ChunkState, Chunks},
        identity::{Identifier, Identity, Kind, Likeness},
        pymalloc::{BlockState, Blocks},
    },
    target::memory::Memory,
    units::{Addr, Bytes, Nanos},
    verdict::evidence::{Domain, End, Fate, SiteId},
};

/// Blocks of one site followed from one burst while the site is young.
const PER_BURST: usize = 64;

/// With so many blocks followed already, a site gets half as many new ones from a burst.
const HALVED_AT: usize = 256;

/// Followed blocks of one site at most, dead ones included; see [`Thinning`].
const MAX_OF_SITE: usize = 1024;

/// Followed blocks of all sites at most: some 50 MB. Twice as many while a burst is taken in.
const MAX_FOLLOWED: usize = 1 << 18;

/// First look after so many seconds; then after half the block's age.
const FIRST_LOOK_S: f64 = 0.4;

/// glibc marks a chunk that has a mapping of its own; those are followed as mappings.
const IS_MMAPPED: u64 = 2;

/// What is known of a block.
#[derive(Debug)]
struct Followed {
    site: SiteId,
    addr: Addr,
    look: Look,
    fate: Fate,
    next_look_s: f64,
}

impl Followed {
    /// Its type's address, where it is a Python object.
    fn type_addr(&self) -> Option<Addr> {
        match &self.look {
            Look::Small(Identity { kind: Kind::Object { type_addr, .. }, .. }) => Some(*type_addr),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Look {
    Small(Identity),
    Chunk(ChunkSeen),
    /// Told by probes; when it was allocated.
    Probes(u64),
}

/// How much of a site is followed.
#[derive(Debug)]
struct Sample {
    held: usize,
    thinning: Thinning,
}

/// The followed blocks.
pub struct Survivors {
    followed: Vec<Followed>,
    by_site: HashMap<SiteId, Sample>,
    /// [`MAX_OF_SITE`], or less where there are too many sites for that.
    max_of_site: usize,
    blocks: Option<Blocks>,
    identifier: Identifier,
    chunks: Chunks,
}

impl Survivors {
    /// `blocks`: pymalloc's, where it is in use.
    #[must_use]
    pub fn new(blocks: Option<Blocks>, identifier: Identifier) -> Self {
        Self {
            followed: Vec::new(),
            by_site: HashMap::new(),
            max_of_site: MAX_OF_SITE,
            blocks,
            identifier,
            chunks: Chunks::new(),
        }
    }

    /// Is the address in one of pymalloc's arenas, as of the latest look?
    #[must_use]
    pub fn in_arena(&self, addr: Addr) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.contains(addr))
    }

    /// Reads pymalloc's arenas anew.
    pub fn refresh_arenas<M: Memory>(&mut self, memory: &M) {
        if let Some(blocks) = &mut self.blocks {
            // Unreadable: the arenas known before are kept.
            let _ = blocks.refresh(memory);
        }
    }

    /// Learns from blocks that were just seen freed how the C library marks free chunks.
    pub fn learn_freed<M: Memory>(&mut self, memory: &M, freed: &[Addr]) {
        if !self.chunks.has_key() {
            self.chunks.learn(memory, freed);
        }
    }

    /// Starts to follow a sample of a burst's blocks; each stands for those of its site and size
    /// class that are not followed.
    pub fn add<'a, M: Memory>(
        &mut self,
        memory: &M,
        start: Nanos,
        sites: &Sites,
        blocks: impl Iterator<Item = (SiteId, Addr, &'a LiveBlock)>,
    ) {
        for (site, blocks) in group(blocks) {
            let domain = sites.get(site).map(|site| site.domain);
            let (quota, stands_for) = self.quota(site, blocks.len());
            // The map's order is a hash's: the first are a fair sample.
            for (addr, block) in blocks.into_iter().take(quota) {
                if let Some(look) = self.first_look(memory, domain, addr, block) {
                    self.follow(site, addr, block, look, start, stands_for);
                }
            }
            self.make_room_if_doubled();
        }
        self.make_room();
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
                self.follow(site, addr, block, Look::Probes(block.born_ns), start, stands_for);
            }
            self.make_room_if_doubled();
        }
        self.make_room();
        sites
    }

    fn sample(&mut self, site: SiteId) -> &mut Sample {
        let new = || Sample { held: 0, thinning: Thinning::seeded(site.0.into()) };
        self.by_site.entry(site).or_insert_with(new)
    }

    /// How many of a site's `n` new blocks are looked at, and how many each of them stands for.
    fn quota(&mut self, site: SiteId, n: usize) -> (usize, f64) {
        let quota = PER_BURST * HALVED_AT / (HALVED_AT + self.sample(site).held);
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

    fn follow(
        &mut self,
        site: SiteId,
        addr: Addr,
        block: &LiveBlock,
        look: Look,
        start: Nanos,
        stands_for: f64,
    ) {
        let sample = self.sample(site);
        if !sample.thinning.admits() {
            return;
        }
        sample.held += 1;
        let weight = stands_for * sample.thinning.weight();
        let seconds = |ns: u64| Nanos(ns.saturating_sub(start.0)).seconds();
        let born_s = seconds(block.born_ns);
        let alive_until_s = if block.noted_ns == 0 { born_s } else { seconds(block.noted_ns) };
        self.followed.push(Followed {
            site,
            addr,
            look,
            next_look_s: alive_until_s + FIRST_LOOK_S,
            fate: Fate {
                born_s,
                size: block_bytes(block.size, block.site.size_class),
                size_class: block.site.size_class,
                weight,
                alive_until_s,
                end: End::Alive,
            },
        });
    }

    /// What the block held when the gate closed: noted by the kernel, or read now where the kernel did
    /// not close it (nothing was allocating then).
    fn first_look<M: Memory>(
        &mut self,
        memory: &M,
        domain: Option<Domain>,
        addr: Addr,
        block: &LiveBlock,
    ) -> Option<Look> {
        let mut content: Vec<u8> = block.content.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut header = block.header;
        if block.noted_ns == 0 {
            memory.read(addr, &mut content).ok()?;
            header = memory.word(Addr(addr.0.wrapping_sub(8))).ok()?;
        }
        match domain? {
            Domain::Pymalloc => {
                content.truncate(usize::try_from(block.size).unwrap_or(usize::MAX));
                Some(Look::Small(self.identifier.identify(memory, &content)))
            }
            Domain::Malloc if header & IS_MMAPPED == 0 => {
                let mut first = [0; 32];
                first.copy_from_slice(content.get(..32)?);
                Some(Look::Chunk(ChunkSeen { size_word: header, content: first }))
            }
            Domain::Malloc | Domain::Mmap => None,
        }
    }

    /// Looks at the blocks whose time has come, or at all that live (`all`).
    pub fn look<M: Memory>(&mut self, memory: &M, now_s: f64, all: bool) {
        let due: Vec<usize> = (0..self.followed.len())
            .filter(|i| {
                let f = &self.followed[*i];
                f.fate.end == End::Alive && (all || f.next_look_s <= now_s)
            })
            .collect();
        let (small, chunks): (Vec<usize>, Vec<usize>) =
            due.into_iter().partition(|i| matches!(self.followed[*i].look, Look::Small(_)));
        self.look_at_small(memory, now_s, &small);
        self.look_at_chunks(memory, now_s, &chunks);
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

    fn look_at_small<M: Memory>(&mut self, memory: &M, now_s: f64, due: &[usize]) {
        let Some(blocks) = &mut self.blocks else { return };
        let addrs: Vec<Addr> = due.iter().map(|i| self.followed[*i].addr).collect();
        // First whether it is allocated, then what it is: a block that is freed in between and looks
        // the same would have to be handed out again as the same.
        let Ok(states) = blocks.live(memory, &addrs) else { return };
        let sizes: Vec<(Addr, Bytes)> =
            due.iter().map(|i| (self.followed[*i].addr, self.followed[*i].fate.size)).collect();
        let identities = self.identifier.look(memory, &sizes);
        for ((i, state), identity) in due.iter().zip(states).zip(identities) {
            let followed = &mut self.followed[*i];
            let Look::Small(first) = &followed.look else { continue };
            let end = match (state, identity) {
                (BlockState::Free | BlockState::NotPymalloc, _) => End::Died,
                (BlockState::Torn, _) | (_, None) => {
                    followed.next_look_s = now_s + FIRST_LOOK_S;
                    continue;
                }
                (BlockState::Live, Some(identity)) => match first.compare(&identity) {
                    Likeness::Same => End::Alive,
                    Likeness::Changed => End::Unknown,
                    Likeness::Other => End::Died,
                },
            };
            followed.ended(end, now_s);
        }
    }

    fn look_at_chunks<M: Memory>(&mut self, memory: &M, now_s: f64, due: &[usize]) {
        let chunks: Vec<(Addr, ChunkSeen)> = due
            .iter()
            .filter_map(|i| match &self.followed[*i].look {
                Look::Chunk(seen) => Some((self.followed[*i].addr, *seen)),
                Look::Small(_) | Look::Probes(_) => None,
            })
            .collect();
        let states = self.chunks.states(memory, &chunks);
        for ((i, state), (addr, seen)) in due.iter().zip(states).zip(&chunks) {
            let end = match state {
                ChunkState::Free | ChunkState::Reused => End::Died,
                ChunkState::Unknown => End::Unknown,
                ChunkState::Live => {
                    let mut content = [0; 32];
                    match memory.read(*addr, &mut content) {
                        Ok(()) if content == seen.content => End::Alive,
                        Ok(()) => End::Unknown,
                        Err(_) => End::Died,
                    }
                }
            };
            self.followed[*i].ended(end, now_s);
        }
    }

    /// All fates by site.
    #[must_use]
    pub fn fates(&self) -> HashMap<SiteId, Vec<Fate>> {
        let mut fates: HashMap<SiteId, Vec<Fate>> = HashMap::new();
        for followed in &self.followed {
            fates.entry(followed.site).or_default().push(followed.fate);
        }
        fates
    }

    /// How much of each site's living blocks is of one of these types, 0 to 1, by weight. Sites that have
    /// none are left out.
    #[must_use]
    pub fn share_of(&self, types: &[Addr]) -> HashMap<SiteId, f64> {
        let mut weights: HashMap<SiteId, (f64, f64)> = HashMap::new();
        for followed in self.followed.iter().filter(|f| f.fate.end == End::Alive) {
            let (of_them, all) = weights.entry(followed.site).or_default();
            *all += followed.fate.weight;
            if followed.type_addr().is_some_and(|addr| types.contains(&addr)) {
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
        living.filter_map(Followed::type_addr).collect()
    }

    /// What a site's living blocks are, by type address, with their weights; None: not an object.
    #[must_use]
    pub fn kinds(&self, site: SiteId) -> HashMap<Option<Addr>, f64> {
        let mut kinds = HashMap::new();
        let living = self.followed.iter().filter(|f| f.site == site && f.fate.end == End::Alive);
        for followed in living {
            *kinds.entry(followed.type_addr()).or_default() += followed.fate.weight;
        }
        kinds
    }
}

type BySite<'a> = HashMap<SiteId, Vec<(Addr, &'a LiveBlock)>>;

fn group<'a>(blocks: impl Iterator<Item = (SiteId, Addr, &'a LiveBlock)>) -> BySite<'a> {
    let mut by_site = BySite::new();
    for (site, addr, block) in blocks {
        by_site.entry(site).or_default().push((addr, block));
    }
    by_site
}

impl Followed {
    fn ended(&mut self, end: End, now_s: f64) {
        self.fate.end = end;
        if end == End::Alive {
            self.fate.alive_until_s = now_s;
            self.next_look_s = now_s + FIRST_LOOK_S.max((now_s - self.fate.born_s) / 2.0);
        }
    }
}

#[cfg(test)]
#[path = "survivors_tests.rs"]
mod tests;
