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

/// Blocks that bursts must have seen go to tell how long a site's live.
const FEW_GONE: u32 = 2;

/// A block of malloc that has grown older than so many mean lives of its site's is no longer believed to be
/// the same.
const CREDIBLE_LIVES: f64 = 2.0;

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
            Look::Small(identity) | Look::Content { identity, .. } => match identity.kind {
                Kind::Object { type_addr, .. } => Some(type_addr),
                Kind::Raw => None,
            },
            Look::Chunk(_) | Look::Probes(_) => None,
        }
    }
}

#[derive(Debug)]
enum Look {
    Small(Identity),
    Chunk(ChunkSeen),
    /// Of a heap whose own records can't be read.
    Content {
        identity: Identity,
        start: Start,
        /// As asked for.
        size: Bytes,
    },
    /// Told by probes; when it was allocated.
    Probes(u64),
}

/// A block's first words, zeros after its end.
type Start = [u64; 4];

/// How much of a site is followed.
#[derive(Debug)]
struct Sample {
    held: usize,
    thinning: Thinning,
    /// For how long bursts watched its blocks, all together, and how many of them they saw go.
    watched_s: f64,
    gone: u32,
}

impl Sample {
    /// How old a block can be that is believed to be still the one that it was. What looks the same may be
    /// another of its kind in the same place; the bursts, which see one part in a hundred of the time, tell
    /// how fast such blocks come and go.
    fn credible_age_s(&self) -> f64 {
        if self.gone < FEW_GONE {
            return f64::INFINITY;
        }
        CREDIBLE_LIVES * self.watched_s / f64::from(self.gone)
    }
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
    /// The blocks of malloc are glibc's chunks.
    glibc: bool,
    /// What the next burst watches.
    watched: HashSet<Addr>,
}

impl Survivors {
    /// `blocks`: pymalloc's, where it is in use; `glibc`: the blocks of malloc are glibc's chunks.
    #[must_use]
    pub fn new(blocks: Option<Blocks>, identifier: Identifier, glibc: bool) -> Self {
        Self {
            followed: Vec::new(),
            by_site: HashMap::new(),
            max_of_site: MAX_OF_SITE,
            blocks,
            identifier,
            chunks: Chunks::new(),
            glibc,
            watched: HashSet::new(),
        }
    }

    /// The living blocks of malloc, at most so many, the youngest first: bursts should see whether they go.
    #[must_use]
    pub fn to_watch(&mut self, most: usize) -> HashSet<Addr> {
        let living = self.followed.iter().rev().filter(|followed| followed.may_be_another());
        self.watched = living.take(most).map(|followed| followed.addr).collect();
        self.watched.clone()
    }

    /// A burst that recorded for so many seconds saw these go, of those that it was to watch.
    pub fn gone(&mut self, gone: &HashSet<Addr>, recorded_s: f64) {
        for followed in self.followed.iter_mut().filter(|followed| followed.may_be_another()) {
            let Some(sample) = self.by_site.get_mut(&followed.site) else { continue };
            if self.watched.contains(&followed.addr) {
                sample.watched_s += recorded_s;
                if gone.contains(&followed.addr) {
                    sample.gone += 1;
                    followed.fate.end = End::Died;
                }
            }
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
        let new = || Sample {
            held: 0,
            thinning: Thinning::seeded(site.0.into()),
            watched_s: 0.0,
            gone: 0,
        };
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
                let size = block_bytes(block.size, block.site.size_class);
                content.truncate(usize::try_from(size.0).unwrap_or(usize::MAX));
                Some(Look::Small(self.identifier.identify(memory, &content)))
            }
            Domain::Malloc if !self.glibc => {
                content.truncate(usize::try_from(block.size).unwrap_or(usize::MAX));
                let identity = self.identifier.identify(memory, &content);
                let size = Bytes(block.size);
                Some(Look::Content { identity, start: words(&content), size })
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
        let with = |is_one: fn(&Look) -> bool| -> Vec<usize> {
            due.iter().copied().filter(|i| is_one(&self.followed[*i].look)).collect()
        };
        let small = with(|look| matches!(look, Look::Small(_)));
        let chunks = with(|look| matches!(look, Look::Chunk(_)));
        let others = with(|look| matches!(look, Look::Content { .. }));
        self.look_at_small(memory, now_s, &small);
        self.look_at_chunks(memory, now_s, &chunks);
        self.look_at_content(memory, now_s, &others);
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
                Look::Small(_) | Look::Content { .. } | Look::Probes(_) => None,
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

    /// Of a heap whose own records can't be read: what is there is what was there, or not.
    fn look_at_content<M: Memory>(&mut self, memory: &M, now_s: f64, due: &[usize]) {
        let block = |i: &usize| match &self.followed[*i] {
            Followed { addr, look: Look::Content { size, .. }, .. } => (*addr, *size),
            Followed { addr, fate, .. } => (*addr, fate.size),
        };
        let blocks: Vec<(Addr, Bytes)> = due.iter().map(block).collect();
        let identities = self.identifier.look(memory, &blocks);
        for (i, later) in due.iter().zip(identities) {
            let followed = &mut self.followed[*i];
            let Look::Content { identity, start, size } = &followed.look else { continue };
            let end = match later.map(|later| identity.compare(&later)) {
                None | Some(Likeness::Other) => End::Died,
                Some(Likeness::Same) => End::Alive,
                Some(Likeness::Changed) => {
                    let mut now = [0; size_of::<Start>()];
                    let length = usize::try_from(size.0).map_or(now.len(), |n| n.min(now.len()));
                    let read = memory.read(followed.addr, &mut now[..length]);
                    let freed = read.is_err() || is_link(start, &words(&now));
                    if freed { End::Died } else { End::Unknown }
                }
            };
            followed.ended(end, now_s);
        }
    }

    /// All fates by site.
    #[must_use]
    pub fn fates(&self) -> HashMap<SiteId, Vec<Fate>> {
        let mut fates: HashMap<SiteId, Vec<Fate>> = HashMap::new();
        for followed in &self.followed {
            let mut fate = followed.fate;
            let sample = self.by_site.get(&followed.site).filter(|_| followed.may_be_another());
            let credible_s = sample.map_or(f64::INFINITY, Sample::credible_age_s);
            if fate.alive_until_s - fate.born_s > credible_s {
                fate.alive_until_s = fate.born_s + credible_s;
                fate.end = End::Unknown;
            }
            fates.entry(followed.site).or_default().push(fate);
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

fn words(content: &[u8]) -> Start {
    let mut words = Start::default();
    for (word, bytes) in words.iter_mut().zip(content.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Does a block look as tcmalloc and mimalloc leave it when it is freed: the link of a list, or the end of it,
/// in its first word, and the rest untouched?
fn is_link(before: &Start, now: &Start) -> bool {
    let is_address = now[0].is_multiple_of(8) && now[0] >> 47 == 0;
    before[0] != now[0] && is_address && before[1..] == now[1..]
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
    /// Does it live, as far as its content and what is around it tell?
    fn may_be_another(&self) -> bool {
        self.fate.end == End::Alive && matches!(self.look, Look::Content { .. } | Look::Chunk(_))
    }

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
