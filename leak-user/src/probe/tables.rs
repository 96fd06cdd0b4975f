//! Reads and prunes the maps that the programs fill.

use std::collections::HashSet;
use std::ops::Range;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use leak_common::{
    code,
    counters::{COUNTERS, Counter},
    keys::{LiveBlock, SiteCounts, SiteKey},
};

use super::{batch::Batches, error::ProbeError, notes::Notes, object::Object};
use crate::{clock::now, target::memory::Memory, units::Addr};

/// Takes a map out of the object.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    object: &mut Object,
    name: &'static str,
) -> Result<T, ProbeError> {
    let map = object.ebpf.take_map(name).ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
    T::try_from(map).map_err(|source| ProbeError::Map { map: name, source })
}

/// Blocks of each allocator that can be watched.
pub const MOST_WATCHED: usize = 1 << 12;

/// The maps.
pub struct Tables {
    counts: PerCpuArray<MapData, u64>,
    sites: Batches<SiteKey, SiteCounts>,
    live: Batches<u64, LiveBlock>,
    /// The same, one by one.
    blocks: HashMap<MapData, u64, LiveBlock>,
    faults: Batches<u64, u64>,
    watched: Batches<u64, u64>,
    /// The same, one by one.
    watched_blocks: HashMap<MapData, u64, u64>,
    map_interval: Array<MapData, u64>,
    code: Array<MapData, code::Table>,
    notes: Notes,
}

/// What was counted, summed over the CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; COUNTERS]);

impl Counts {
    /// One counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_sub(before.0[i])))
    }
}

impl Tables {
    /// Takes the maps out of the object.
    ///
    /// # Errors
    /// [`ProbeError`] where the object lacks one.
    pub fn new(object: &mut Object) -> Result<Self, ProbeError> {
        Ok(Self {
            counts: take(object, "COUNTS")?,
            sites: Batches::of(object, "SITES")?,
            live: Batches::of(object, "LIVE")?,
            blocks: take(object, "LIVE")?,
            faults: Batches::of(object, "FAULTS")?,
            watched: Batches::of(object, "WATCHED")?,
            watched_blocks: take(object, "WATCHED")?,
            map_interval: take(object, "MAP_INTERVAL")?,
            code: take(object, "CODE")?,
            notes: Notes::default(),
        })
    }

    /// The counters.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn counts(&self) -> Result<Counts, ProbeError> {
        let mut counts = Counts::default();
        for (index, slot) in (0..).zip(&mut counts.0) {
            let by_cpu = self.counts.get(&index, 0).map_err(failed("COUNTS"))?;
            *slot = by_cpu.iter().sum();
        }
        Ok(counts)
    }

    /// Takes out every site with its counts; to be called while the gate is closed.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn take_sites(&mut self) -> Result<Vec<(SiteKey, SiteCounts)>, ProbeError> {
        let mut sites = Vec::new();
        self.sites.take(|site| sites.push(site))?;
        Ok(sites)
    }

    /// Notes what the recorded blocks hold, as the kernel does when a hit closes the gate; to be called when none has
    /// come for a while. Where one comes later, what the kernel notes then is what counts.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub(super) fn note_content(&mut self, memory: &impl Memory) -> Result<(), ProbeError> {
        let mut blocks = Vec::new();
        self.live.read(|(at, _)| blocks.push(Addr(at)))?;
        self.notes = Notes::of(memory, &blocks, now());
        Ok(())
    }

    /// A hit came while that was noted.
    pub(super) fn forget_notes(&mut self) {
        self.notes = Notes::default();
    }

    /// Takes out every recorded block that was not seen freed; to be called while the gate is closed.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn take_live(&mut self) -> Result<Vec<(Addr, LiveBlock)>, ProbeError> {
        let notes = std::mem::take(&mut self.notes);
        let mut blocks = Vec::new();
        self.live.take(|(at, mut block)| {
            notes.complete(Addr(at), &mut block);
            blocks.push((Addr(at), block));
        })?;
        Ok(blocks)
    }

    /// Every site with its counts, left where they are (tracing everything).
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn sites(&self) -> Result<Vec<(SiteKey, SiteCounts)>, ProbeError> {
        let mut sites = Vec::new();
        self.sites.read(|site| sites.push(site))?;
        Ok(sites)
    }

    /// Every block recorded in a burst that was not seen freed, left where it is (tracing everything).
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn live(&self, burst: u64) -> Result<Vec<(Addr, LiveBlock)>, ProbeError> {
        let mut blocks = Vec::new();
        self.live.read(|(at, block)| {
            if block.burst == burst {
                blocks.push((Addr(at), block));
            }
        })?;
        Ok(blocks)
    }

    /// The block at an address, if it is still booked.
    #[must_use]
    pub fn block(&self, addr: Addr) -> Option<LiveBlock> {
        self.blocks.get(&addr.0, 0).ok()
    }

    /// From now on mappings are sampled, so many bytes apart in the mean; 0: all are recorded.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn sample_mappings(&mut self, interval: u64) -> Result<(), ProbeError> {
        self.map_interval.set(0, interval, 0).map_err(failed("MAP_INTERVAL"))
    }

    /// Says where the target's code is.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn set_code(&mut self, ranges: &[Range<Addr>]) -> Result<(), ProbeError> {
        let mut table = Box::new([0; code::SLOTS]);
        for range in ranges {
            code::mark(&mut table, range.start.0, range.end.0);
        }
        self.code.set(0, *table, 0).map_err(failed("CODE"))
    }

    /// From now on the probes tell when one of these blocks is gone, as far as there is room for them; those
    /// of before are forgotten. To be called while the gate is closed.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn watch(&mut self, mut blocks: HashSet<Addr>) -> Result<(), ProbeError> {
        let mut forgotten = Vec::new();
        self.watched.read(|(address, gone)| {
            // One that is gone has a successor in its place: that is watched anew.
            let stays = gone == 0 && blocks.remove(&Addr(address));
            if !stays && !blocks.contains(&Addr(address)) {
                forgotten.push(address);
            }
        })?;
        for address in forgotten {
            // Not there: nothing to remove.
            let _ = self.watched_blocks.remove(&address);
        }
        for block in blocks {
            // No room: it is watched for nothing.
            let _ = self.watched_blocks.insert(block.0, 0, 0);
        }
        Ok(())
    }

    /// The watched blocks that are gone.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn gone(&self) -> Result<HashSet<Addr>, ProbeError> {
        let mut blocks = HashSet::new();
        self.watched.read(|(address, gone)| {
            if gone != 0 {
                blocks.insert(Addr(address));
            }
        })?;
        Ok(blocks)
    }

    /// Takes out the page faults by stack id.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn take_faults(&mut self) -> Result<Vec<(u64, u64)>, ProbeError> {
        let mut faults = Vec::new();
        self.faults.take(|fault| faults.push(fault))?;
        Ok(faults)
    }
}

fn failed(map: &'static str) -> impl Fn(MapError) -> ProbeError {
    move |source| ProbeError::Map { map, source }
}
