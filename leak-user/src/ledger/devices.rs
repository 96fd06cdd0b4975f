//! Memory of GPUs that the target was handed while it was observed, and of the host for them.
//!
//! The kernel keeps what has not been given back, and is asked for it at intervals: what came and went in between was
//! no leak. Physical memory is followed call by call, since it lasts until it is released *and* nowhere mapped.

use std::collections::{BTreeMap, HashMap, HashSet};

use leak_common::gpu::memory;

use super::graveyard::{Followed, Graveyard};
use crate::{
    units::{Addr, Bytes, Nanos},
    verdict::evidence::{End, Fate, SiteId},
};

/// Handles of physical memory that are followed at most, and mappings of it.
const MAX_PHYSICAL: usize = 1 << 20;

/// What one site holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes.
    pub bytes: Bytes,
    /// Blocks.
    pub count: u64,
}

/// What a site's blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// One of [`memory`].
    pub memory: u32,
    /// The device, where it is known.
    pub device: Option<u32>,
}

/// A block as the kernel keeps it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Where.
    pub addr: Addr,
    /// It.
    pub block: Followed,
}

/// Blocks of one kind of address.
#[derive(Debug, Default)]
pub struct Blocks {
    live: HashMap<Addr, Followed>,
    ended: Graveyard,
}

impl Blocks {
    /// These are there now, and no others; but for those where a younger one lies by now: their ends were not seen.
    /// Names them.
    pub fn look(&mut self, seen: Vec<Seen>, time: Nanos) -> Vec<Addr> {
        let (now, stale) = without_stale(seen);
        let now: HashMap<Addr, Followed> =
            now.into_iter().map(|seen| (seen.addr, seen.block)).collect();
        for (addr, block) in &self.live {
            if now.get(addr).is_none_or(|there| there.born != block.born) {
                self.ended.bury(*block, time);
            }
        }
        self.live = now;
        stale
    }

    /// The block at an address that came at this time, if it is known.
    #[must_use]
    pub fn known(&self, addr: Addr, born: Nanos) -> Option<Followed> {
        self.live.get(&addr).copied().filter(|block| block.born == born)
    }

    fn fates<'a>(
        &'a self,
        seconds: impl Fn(Nanos) -> f64 + Copy + 'a,
        now_s: f64,
    ) -> impl Iterator<Item = (SiteId, Fate)> + 'a {
        let alive = move |block: &Followed| {
            (block.site, block.fate(seconds(block.born), now_s, End::Alive))
        };
        self.live.values().map(alive).chain(self.ended.fates(seconds))
    }
}

/// Tells blocks that are there from those that a younger one overlaps.
fn without_stale(mut seen: Vec<Seen>) -> (Vec<Seen>, Vec<Addr>) {
    seen.sort_by_key(|seen| seen.addr);
    let (mut there, mut stale): (Vec<Seen>, Vec<Addr>) = (Vec::new(), Vec::new());
    for next in seen {
        let reaches =
            |before: &Seen| before.addr.0.saturating_add(before.block.size.0) > next.addr.0;
        let is_younger = |before: &Seen| before.block.born > next.block.born;
        while let Some(older) = there.pop_if(|before| reaches(before) && !is_younger(before)) {
            stale.push(older.addr);
        }
        if there.last().is_some_and(reaches) {
            stale.push(next.addr);
        } else {
            there.push(next);
        }
    }
    (there, stale)
}

#[derive(Debug, Clone, Copy)]
struct Handle {
    block: Followed,
    released: bool,
    mappings: u32,
}

/// Physical memory.
#[derive(Debug, Default)]
pub struct Physical {
    handles: HashMap<u64, Handle>,
    /// Length and handle of each mapping, by its start.
    mapped: BTreeMap<u64, (u64, u64)>,
    ended: Graveyard,
    /// Blocks and bytes that came, and that went.
    pub made: Holding,
    /// See `made`.
    pub gone: Holding,
    /// There was no room to follow so many.
    pub refused: u64,
}

impl Physical {
    /// It was made.
    pub fn create(&mut self, handle: u64, block: Followed) {
        if self.handles.len() >= MAX_PHYSICAL {
            self.refused += 1;
            return;
        }
        let new = Handle { block, released: false, mappings: 0 };
        if let Some(before) = self.handles.insert(handle, new) {
            self.end(before.block, block.born);
        }
        self.made.add(block.size);
    }

    /// A handle was mapped; one that is not known was there before.
    pub fn map(&mut self, start: u64, length: u64, handle: u64) {
        let Some(known) = self.handles.get_mut(&handle) else { return };
        if self.mapped.len() < MAX_PHYSICAL {
            known.mappings += 1;
            self.mapped.insert(start, (length, handle));
        } else {
            self.refused += 1;
        }
    }

    /// All that lies in a range was unmapped.
    pub fn unmap(&mut self, start: u64, length: u64, time: Nanos) {
        let inside = self.mapped.range(start..start.saturating_add(length));
        let inside: Vec<(u64, u64)> = inside.map(|(at, (_, handle))| (*at, *handle)).collect();
        for (at, handle) in inside {
            self.mapped.remove(&at);
            if let Some(known) = self.handles.get_mut(&handle) {
                known.mappings = known.mappings.saturating_sub(1);
            }
            self.end_if_over(handle, time);
        }
    }

    /// A handle was released.
    pub fn release(&mut self, handle: u64, time: Nanos) {
        if let Some(known) = self.handles.get_mut(&handle) {
            known.released = true;
        }
        self.end_if_over(handle, time);
    }

    fn end_if_over(&mut self, handle: u64, time: Nanos) {
        let is_over = |known: &Handle| known.released && known.mappings == 0;
        if self.handles.get(&handle).is_some_and(is_over)
            && let Some(over) = self.handles.remove(&handle)
        {
            self.end(over.block, time);
        }
    }

    fn end(&mut self, block: Followed, time: Nanos) {
        self.gone.add(block.size);
        self.ended.bury(block, time);
    }

    fn live(&self) -> impl Iterator<Item = &Followed> {
        self.handles.values().map(|handle| &handle.block)
    }
}

impl Holding {
    /// One more block.
    pub fn add(&mut self, size: Bytes) {
        // Sizes are the target's word.
        self.bytes.0 = self.bytes.0.saturating_add(size.0);
        self.count += 1;
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Devices {
    /// What calls handed out.
    pub blocks: Blocks,
    /// What torch's allocator handed out, in parts of the former.
    pub tensors: Blocks,
    /// Physical memory.
    pub physical: Physical,
    /// Sites whose blocks torch's allocator hands on in parts.
    segments: HashSet<SiteId>,
    kinds: HashMap<SiteId, Kind>,
    /// Tensors that ended, by site.
    ended: HashMap<SiteId, u64>,
    /// Ends go unseen at times, since tensors are watched in windows.
    pub in_windows: bool,
}

impl Devices {
    /// What a site's blocks are, and whether torch's allocator asked for them.
    pub fn note(&mut self, site: SiteId, kind: Kind, by_torch: bool) {
        self.kinds.entry(site).or_insert(kind);
        // What it takes from a pool of the driver's it hands on whole, and does not report.
        if by_torch && [memory::DEVICE, memory::PHYSICAL].contains(&kind.memory) {
            self.segments.insert(site);
        }
    }

    /// So many of a site's tensors have ended.
    pub fn note_ended(&mut self, site: SiteId, count: u64) {
        *self.ended.entry(site).or_default() += count;
    }

    /// How many of a site's tensors were seen to end; 0 where no end goes unseen.
    #[must_use]
    pub fn ended(&self, site: SiteId) -> u64 {
        if self.in_windows { self.ended.get(&site).copied().unwrap_or(0) } else { 0 }
    }

    /// What a site's blocks are.
    #[must_use]
    pub fn kind(&self, site: SiteId) -> Option<Kind> {
        self.kinds.get(&site).copied()
    }

    fn live(&self) -> impl Iterator<Item = &Followed> {
        self.blocks.live.values().chain(self.physical.live())
    }

    /// The sites of the living, as often as they have some.
    pub fn sites_alive(&self) -> impl Iterator<Item = SiteId> {
        self.live().chain(self.tensors.live.values()).map(|block| block.site)
    }

    /// Forgets the dead of these sites.
    pub fn forget(&mut self, sites: &HashSet<SiteId>) {
        for graves in [&mut self.blocks.ended, &mut self.tensors.ended, &mut self.physical.ended] {
            graves.forget(sites);
        }
        self.kinds.retain(|site, _| !sites.contains(site));
        self.ended.retain(|site, _| !sites.contains(site));
        self.segments.retain(|site| !sites.contains(site));
    }

    /// Bytes that calls handed out and that are still held; without segments of torch's, where its tensors are
    /// followed.
    #[must_use]
    pub fn bytes(&self, with_segments: bool) -> f64 {
        let counts = |block: &&Followed| with_segments || !self.segments.contains(&block.site);
        self.live().filter(counts).map(|block| block.size.0 as f64).sum()
    }

    /// What each site holds now, the most first; without segments of torch's, where its tensors are followed.
    #[must_use]
    pub fn holders(&self, with_segments: bool) -> Vec<(SiteId, Holding)> {
        let mut held: HashMap<SiteId, Holding> = HashMap::new();
        let counts = |block: &&Followed| with_segments || !self.segments.contains(&block.site);
        let own = self.live().filter(counts);
        for block in own.chain(self.tensors.live.values()) {
            held.entry(block.site).or_default().add(block.size);
        }
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_by_key(|(site, holding)| (std::cmp::Reverse(holding.bytes), *site));
        held
    }

    /// Every block's fate; without segments of torch's, where its tensors are followed.
    pub fn fates<'a>(
        &'a self,
        seconds: impl Fn(Nanos) -> f64 + Copy + 'a,
        now_s: f64,
        with_segments: bool,
    ) -> impl Iterator<Item = (SiteId, Fate)> + 'a {
        let physical = self
            .physical
            .live()
            .map(move |block| (block.site, block.fate(seconds(block.born), now_s, End::Alive)));
        let physical = physical.chain(self.physical.ended.fates(seconds));
        let own = self.blocks.fates(seconds, now_s).chain(physical);
        let own = own.filter(move |(site, _)| with_segments || !self.segments.contains(site));
        own.chain(self.tensors.fates(seconds, now_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(site: u32, size: u64, born: u64) -> Followed {
        Followed { site: SiteId(site), size: Bytes(size), weight: 1.0, born: Nanos(born) }
    }

    fn seen(addr: u64, block: Followed) -> Seen {
        Seen { addr: Addr(addr), block }
    }

    fn ends(devices: &Devices) -> Vec<(u32, End)> {
        let fates = devices.fates(Nanos::seconds, 9.0, true);
        let mut ends: Vec<_> = fates.map(|(site, fate)| (site.0, fate.end)).collect();
        ends.sort_by_key(|(site, end)| (*site, *end == End::Alive));
        ends
    }

    #[test]
    fn an_address_that_is_handed_out_again_is_another_block() {
        let mut devices = Devices::default();
        let (old, new) = (block(1, 100, 1), block(2, 200, 5));
        devices.blocks.look(vec![seen(0x1000, old), seen(0x2000, old)], Nanos(2));
        devices.blocks.look(vec![seen(0x1000, new), seen(0x2000, old)], Nanos(6));
        assert_eq!(devices.bytes(true), 300.0);
        assert_eq!(ends(&devices), [(1, End::Died), (1, End::Alive), (2, End::Alive)]);
    }

    #[test]
    fn a_block_under_a_younger_one_has_ended_unseen() {
        let mut blocks = Blocks::default();
        // A large one in whose place two others lie, and one that begins within a younger one.
        let large = seen(0x1000, block(1, 0x1000, 1));
        let others = [seen(0x1200, block(2, 0x100, 5)), seen(0x1800, block(2, 0x100, 6))];
        let within = [seen(0x3000, block(3, 0x200, 9)), seen(0x3100, block(4, 0x400, 2))];
        let apart = seen(0x5000, block(5, 0x100, 3));
        let all = [others[1], large, within[1], others[0], apart, within[0]];
        assert_eq!(blocks.look(all.to_vec(), Nanos(10)), [Addr(0x1000), Addr(0x3100)]);
        assert_eq!(blocks.live.len(), 4);
        // Hostile sizes do no harm.
        let endless = seen(1, block(6, u64::MAX, 1));
        assert_eq!(blocks.look(vec![endless, apart], Nanos(11)), [Addr(1)]);
    }

    #[test]
    fn what_torch_takes_from_a_pool_of_the_drivers_is_no_segment() {
        let mut devices = Devices::default();
        devices.note(SiteId(1), Kind { memory: memory::POOLED, device: None }, true);
        devices.blocks.look(vec![seen(0x1000, block(1, 4096, 1))], Nanos(2));
        assert_eq!(devices.bytes(false), 4096.0);
    }

    #[test]
    fn physical_memory_lasts_until_it_is_released_and_unmapped() {
        let mut devices = Devices::default();
        let physical = &mut devices.physical;
        physical.create(7, block(1, 100, 1));
        physical.map(0x1000, 50, 7);
        physical.map(0x1032, 50, 7);
        physical.release(7, Nanos(2));
        physical.unmap(0x1000, 50, Nanos(3));
        assert_eq!(devices.bytes(true), 100.0);
        devices.physical.unmap(0x1032, 50, Nanos(4));
        assert_eq!(devices.bytes(true), 0.0);
        assert_eq!(devices.physical.gone, devices.physical.made);
        // Unmapped first, both by one call, then released.
        let physical = &mut devices.physical;
        physical.create(8, block(1, 100, 1));
        physical.map(0x1000, 50, 8);
        physical.map(0x1032, 50, 8);
        physical.unmap(0x1000, 100, Nanos(5));
        assert_eq!(devices.bytes(true), 100.0);
        devices.physical.release(8, Nanos(6));
        assert_eq!(devices.bytes(true), 0.0);
    }

    #[test]
    fn segments_are_not_counted_beside_their_parts() {
        let mut devices = Devices::default();
        let kind = |memory| Kind { memory, device: None };
        devices.note(SiteId(1), kind(memory::DEVICE), true);
        devices.note(SiteId(2), kind(memory::TENSOR), true);
        devices.blocks.look(vec![seen(0x1000, block(1, 4096, 1))], Nanos(2));
        devices.tensors.look(vec![seen(0x1000, block(2, 512, 1))], Nanos(2));
        assert_eq!((devices.bytes(true), devices.bytes(false)), (4096.0, 0.0));
        assert_eq!(devices.fates(Nanos::seconds, 9.0, false).count(), 1);
        let held = Holding { bytes: Bytes(512), count: 1 };
        assert_eq!(devices.holders(false), [(SiteId(2), held)]);
    }

    #[test]
    fn what_no_one_knows_of_does_no_harm() {
        let mut physical = Physical::default();
        physical.map(0x1000, u64::MAX, 3);
        physical.unmap(u64::MAX, u64::MAX, Nanos(1));
        physical.release(3, Nanos(1));
        assert_eq!((physical.made, physical.gone), Default::default());
    }
}
