//! How many blocks of each size class are alive, by pymalloc's own count.

use super::pool::{CLASSES, HEADER_BYTES, PoolHeader};
use super::{Arenas, PymallocError, attempts};
use crate::target::Pymalloc;
use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// Pool headers that one round reads: those of 16 arenas of the usual size.
const ROUND: usize = 1024;

/// So many unreadable headers mean that the array of arenas is no such thing.
const MAX_UNREADABLE: u64 = 1 << 16;

/// pymalloc's live blocks and free space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Live blocks by size class, 1..=32; index 0 is not used.
    pub live: [u64; CLASSES + 1],
    /// Arenas in use.
    pub arenas: u64,
    /// Pools with at least one live block.
    pub used_pools: u64,
    /// Pools that were used and hold nothing now.
    pub free_pools: u64,
    /// Pools that were never used: address space, in general not memory.
    pub untouched_pools: u64,
    /// Bytes of live blocks.
    pub live_bytes: Bytes,
    /// Bytes of free blocks in used pools: fragmentation.
    pub free_bytes: Bytes,
    /// Bytes of used pools that are no blocks: headers, and what is left over at the end.
    pub overhead: Bytes,
    /// Bytes of `free_pools`: held free.
    pub held_free: Bytes,
    /// Pool headers that could not be read.
    pub unreadable: u64,
    /// Pool headers and entries of the array of arenas that made no sense.
    pub implausible: u64,
}

/// Counts all live blocks; reads 48 bytes of every used pool.
///
/// The target runs on, so pools are not all of the same moment; each is consistent in itself.
///
/// # Errors
/// [`PymallocError`], where pymalloc's state can't be read or is none.
pub fn census<M: Memory>(memory: &M, state: &Pymalloc) -> Result<Census, PymallocError> {
    let arenas = Arenas::read(memory, state)?;
    let mut census = Census {
        arenas: arenas.as_slice().len() as u64,
        implausible: arenas.implausible(),
        ..Census::empty()
    };
    let mut round: Vec<(Addr, u32)> = Vec::with_capacity(ROUND);
    for arena in arenas.as_slice() {
        let before = round.len();
        round.extend(arenas.touched_pools(arena).map(|pool| (pool, arena.index)));
        let touched = (round.len() - before) as u64;
        census.untouched_pools += u64::from(arena.total_pools).saturating_sub(touched);
        if round.len() >= ROUND {
            census.count(memory, &round, state.pool_size);
            round.clear();
        }
        if census.unreadable > MAX_UNREADABLE {
            let value = census.unreadable;
            return Err(PymallocError::Implausible { what: "unreadable pools", value });
        }
    }
    census.count(memory, &round, state.pool_size);
    Ok(census)
}

impl Census {
    fn empty() -> Self {
        Self {
            live: [0; CLASSES + 1],
            arenas: 0,
            used_pools: 0,
            free_pools: 0,
            untouched_pools: 0,
            live_bytes: Bytes(0),
            free_bytes: Bytes(0),
            overhead: Bytes(0),
            held_free: Bytes(0),
            unreadable: 0,
            implausible: 0,
        }
    }

    fn count<M: Memory>(&mut self, memory: &M, pools: &[(Addr, u32)], pool_size: u64) {
        let mut headers = vec![[0; HEADER_BYTES as usize]; pools.len()];
        let mut pieces: Vec<(Addr, &mut [u8])> = pools
            .iter()
            .zip(&mut headers)
            .map(|((pool, _), header)| (*pool, header.as_mut_slice()))
            .collect();
        let read = memory.read_scattered(&mut pieces);
        for ((header, (pool, arena_index)), read) in headers.iter_mut().zip(pools).zip(read) {
            if !read {
                self.unreadable += 1;
                continue;
            }
            let mut makes_sense = |header: &_| {
                self.add(&PoolHeader::parse(header), *arena_index, pool_size).is_some()
            };
            // One that is just being taken into use does not, for a moment.
            let settled = makes_sense(header)
                || attempts().any(|_| memory.read(*pool, header).is_ok() && makes_sense(header));
            self.implausible += u64::from(!settled);
        }
    }

    /// None: it makes no sense.
    fn add(&mut self, pool: &PoolHeader, arena_index: u32, pool_size: u64) -> Option<()> {
        if pool.count == 0 {
            self.free_pools += 1;
            self.held_free.0 += pool_size;
            return Some(());
        }
        let size = pool.block_size().filter(|_| pool.arena_index == arena_index)?;
        pool.carved(pool_size)?;
        let class = self.live.get_mut(pool.size_index as usize + 1)?;
        let (count, capacity) = (u64::from(pool.count), PoolHeader::capacity(size, pool_size));
        *class += count;
        self.used_pools += 1;
        self.live_bytes.0 += count * size;
        self.free_bytes.0 += (capacity - count) * size;
        self.overhead.0 += pool_size - capacity * size;
        Some(())
    }

    /// Live blocks of all classes.
    #[must_use]
    pub fn live_blocks(&self) -> u64 {
        self.live.iter().sum()
    }
}

#[cfg(test)]
#[path = "census_tests.rs"]
pub(in crate::heap) mod tests;
