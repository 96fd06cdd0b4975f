//! Is a block allocated now?

use std::collections::BTreeMap;

use super::pool::{HEADER_BYTES, PoolHeader};
use super::{Arenas, PymallocError, attempts};
use crate::target::Pymalloc;
use crate::target::memory::Memory;
use crate::units::Addr;

/// Pools read at once: 4 MiB of the usual size.
const ROUND: usize = 256;

/// A target that was taken off its processor in the midst of an allocation has a pool that counts so many blocks more or
/// less than it has, for as long as it waits.
const MIDST: u64 = 1;

/// What pymalloc says of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// Allocated.
    Live,
    /// No allocated block starts there, but the memory is pymalloc's.
    Free,
    /// No arena holds the address. A block that was pymalloc's is free then: its arena was returned.
    NotPymalloc,
    /// The pool changed each time it was read, or could not be read: not known.
    Torn,
}

/// Pools that a walk over all blocks has not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// They changed each time that they were read.
    pub torn: u64,
    /// They could not be read: their arena was given back meanwhile.
    pub unreadable: u64,
}

/// Answers, for many blocks at once, which are still allocated.
#[derive(Debug)]
pub struct Blocks {
    state: Pymalloc,
    arenas: Arenas,
    buffer: Vec<u8>,
    carved: Vec<bool>,
}

impl Blocks {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(state: Pymalloc) -> Self {
        Self { state, arenas: Arenas::default(), buffer: Vec::new(), carved: Vec::new() }
    }

    /// The arenas as the latest [`Self::live`] or [`Self::refresh`] found them.
    #[must_use]
    pub fn arenas(&self) -> &Arenas {
        &self.arenas
    }

    /// Did an arena hold the address, at the latest look?
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.arenas.contains(addr)
    }

    /// Reads the array of arenas anew.
    ///
    /// # Errors
    /// [`PymallocError`]; the arenas known before are kept.
    pub fn refresh<M: Memory>(&mut self, memory: &M) -> Result<(), PymallocError> {
        self.arenas = Arenas::read(memory, &self.state)?;
        Ok(())
    }

    /// The state of each block, in the order given; each pool that holds some of them is read whole.
    ///
    /// # Errors
    /// [`PymallocError`], where the array of arenas can't be read.
    pub fn live<M: Memory>(
        &mut self,
        memory: &M,
        blocks: &[Addr],
    ) -> Result<Vec<BlockState>, PymallocError> {
        self.refresh(memory)?;
        let mut states = vec![BlockState::NotPymalloc; blocks.len()];
        let mut pools: BTreeMap<Addr, Pool> = BTreeMap::new();
        for (i, block) in blocks.iter().enumerate() {
            let Some(arena) = self.arenas.find(*block) else { continue };
            let pool = Addr(block.0 & !(self.state.pool_size - 1));
            if pool < arena.first_pool || pool >= arena.untouched {
                states[i] = BlockState::Free;
                continue;
            }
            let index = arena.index;
            let entry =
                pools.entry(pool).or_insert_with(|| Pool { arena: index, asked: Vec::new() });
            entry.asked.push(i);
        }
        let pools: Vec<(Addr, Pool)> = pools.into_iter().collect();
        for index in self.round(memory, blocks, &pools, &mut states) {
            let (addr, pool) = &pools[index];
            self.settle(memory, blocks, *addr, pool, &mut states);
        }
        Ok(states)
    }

    /// Shows every live block with what lies in it, an arena at a time: of the arenas that the latest look found.
    ///
    /// Where the target runs on, each pool is consistent in itself, not with the others. Where it stands still, the one
    /// that it was at work on may count a block more or less than it has.
    pub fn each_arena<M: Memory>(
        &mut self,
        memory: &M,
        mut see: impl FnMut(&[(Addr, &[u8])]),
    ) -> Walked {
        let Self { state, arenas, buffer, carved } = self;
        let size = state.pool_size as usize;
        let mut walked = Walked::default();
        let mut torn: Vec<(Addr, u32)> = Vec::new();
        for arena in arenas.as_slice() {
            let pools: Vec<Addr> = arenas.touched_pools(arena).collect();
            buffer.resize(pools.len() * size, 0);
            let whole = memory.read(arena.first_pool, buffer).is_ok();
            let mut live: Vec<(Addr, &[u8])> = Vec::new();
            for (pool, bytes) in pools.into_iter().zip(buffer.chunks_exact_mut(size)) {
                // Where an arena is given back meanwhile, or in part, its pools are tried each for itself.
                if !whole && memory.read(pool, bytes).is_err() {
                    walked.unreadable += 1;
                    continue;
                }
                match settled(memory, (pool, arena.index), bytes, carved) {
                    Some(view) => live.extend(view.blocks(bytes)),
                    None => torn.push((pool, arena.index)),
                }
            }
            see(&live);
        }
        // The target has gone on to other pools by now.
        buffer.resize(size, 0);
        for pool in torn {
            let read = memory.read(pool.0, buffer).is_ok();
            match if read { settled(memory, pool, buffer, carved) } else { None } {
                Some(view) => see(&view.blocks(buffer).collect::<Vec<_>>()),
                None => walked.torn += 1,
            }
        }
        walked
    }

    /// Reads all the pools once; returns the indices of those that made no sense.
    fn round<M: Memory>(
        &mut self,
        memory: &M,
        blocks: &[Addr],
        pools: &[(Addr, Pool)],
        states: &mut [BlockState],
    ) -> Vec<usize> {
        let size = self.state.pool_size as usize;
        let mut torn = Vec::new();
        for (first, batch) in (0..).step_by(ROUND).zip(pools.chunks(ROUND)) {
            self.buffer.resize(batch.len() * size, 0);
            let mut pieces: Vec<(Addr, &mut [u8])> = batch
                .iter()
                .zip(self.buffer.chunks_exact_mut(size))
                .map(|((addr, _), bytes)| (*addr, bytes))
                .collect();
            let read = memory.read_scattered(&mut pieces);
            let copies = self.buffer.chunks_exact(size).zip(read);
            for (index, ((addr, pool), (bytes, read))) in (first..).zip(batch.iter().zip(copies)) {
                let view =
                    if read { PoolView::new(*addr, bytes, &mut self.carved, 0) } else { None };
                match view.filter(|view| view.is_of(pool.arena)) {
                    Some(view) => view.answer(pool, blocks, states),
                    None => torn.push(index),
                }
            }
        }
        torn
    }

    /// Reads a pool that made no sense again and again.
    fn settle<M: Memory>(
        &mut self,
        memory: &M,
        blocks: &[Addr],
        addr: Addr,
        pool: &Pool,
        states: &mut [BlockState],
    ) {
        self.buffer.resize(self.state.pool_size as usize, 0);
        let read = memory.read(addr, &mut self.buffer).is_ok();
        let Self { buffer, carved, .. } = self;
        let view = if read { settled(memory, (addr, pool.arena), buffer, carved) } else { None };
        match view {
            Some(view) => view.answer(pool, blocks, states),
            None => pool.asked.iter().for_each(|i| states[*i] = BlockState::Torn),
        }
    }
}

/// The pool of an arena, of which `bytes` holds a copy, as soon as a copy makes sense, or is the same twice and off by no
/// more than a block that is just being handed out or taken back.
fn settled<'a, M: Memory>(
    memory: &M,
    (addr, arena): (Addr, u32),
    bytes: &mut [u8],
    carved: &'a mut Vec<bool>,
) -> Option<PoolView<'a>> {
    let mut before: Option<Vec<u8>> = None;
    let mut slack = None;
    for _ in attempts() {
        let stands = before.as_deref() == Some(&*bytes);
        let may_be_off = if stands { MIDST } else { 0 };
        let view = PoolView::new(addr, bytes, carved, may_be_off);
        if view.is_some_and(|view| view.is_of(arena)) {
            slack = Some(may_be_off);
            break;
        }
        before = Some(bytes.to_vec());
        memory.read(addr, bytes).ok()?;
    }
    PoolView::new(addr, bytes, carved, slack?)
}

/// A pool that some blocks are asked of.
#[derive(Debug)]
struct Pool {
    arena: u32,
    asked: Vec<usize>,
}

/// A consistent copy of a pool.
struct PoolView<'a> {
    addr: Addr,
    header: PoolHeader,
    block_size: u64,
    /// Of the carved blocks: is it allocated?
    live: &'a [bool],
}

impl<'a> PoolView<'a> {
    /// None where the copy contradicts itself by more than so many blocks: the pool changed while it was copied.
    fn new(addr: Addr, bytes: &[u8], live: &'a mut Vec<bool>, slack: u64) -> Option<Self> {
        let header = PoolHeader::parse(bytes.first_chunk::<{ HEADER_BYTES as usize }>()?);
        live.clear();
        if header.count == 0 {
            return Some(Self { addr, header, block_size: 16, live });
        }
        let block_size = header.block_size()?;
        // A block that is just being carved off may be counted before it is there.
        let counted = header.count.saturating_sub(u32::try_from(slack).unwrap_or(u32::MAX));
        let carved = PoolHeader { count: counted, ..header }.carved(bytes.len() as u64)?;
        live.resize(usize::try_from(carved).ok()?, true);
        let (mut next, mut free) = (header.free_block, 0);
        // Each step takes a block off `live`, so the walk ends, whatever the list looks like.
        while !next.is_null() {
            let offset = next.0.checked_sub(addr.0)?;
            let index = usize::try_from(block_index(offset, block_size)?).ok()?;
            let slot = live.get_mut(index)?;
            if !std::mem::replace(slot, false) {
                return None;
            }
            free += 1;
            let word = bytes.get(usize::try_from(offset).ok()?..)?.first_chunk::<8>()?;
            next = Addr(u64::from_le_bytes(*word));
        }
        let is_consistent = u64::from(header.count).abs_diff(carved - free) <= slack;
        is_consistent.then_some(Self { addr, header, block_size, live })
    }

    fn is_of(&self, arena: u32) -> bool {
        self.header.count == 0 || self.header.arena_index == arena
    }

    /// The live blocks, each with its bytes.
    fn blocks<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (Addr, &'b [u8])> {
        let (addr, size) = (self.addr, self.block_size);
        let starts = self.live.iter().zip(0..).filter(|(live, _)| **live);
        starts.filter_map(move |(_, index)| {
            let offset = HEADER_BYTES + index * size;
            let block = bytes.get(usize::try_from(offset).ok()?..)?;
            Some((addr.offset(offset), block.get(..usize::try_from(size).ok()?)?))
        })
    }

    /// Notes the state of each block that is asked for.
    fn answer(&self, pool: &Pool, blocks: &[Addr], states: &mut [BlockState]) {
        for i in &pool.asked {
            states[*i] = self.state(blocks[*i]);
        }
    }

    fn state(&self, block: Addr) -> BlockState {
        let index = block_index(block.0.wrapping_sub(self.addr.0), self.block_size);
        let live = index
            .and_then(|index| self.live.get(usize::try_from(index).ok()?))
            .copied()
            .unwrap_or(false);
        if live { BlockState::Live } else { BlockState::Free }
    }
}

/// Which block starts at an offset into a pool, if one does.
fn block_index(offset: u64, block_size: u64) -> Option<u64> {
    let into = offset.checked_sub(HEADER_BYTES)?;
    into.is_multiple_of(block_size).then_some(into / block_size)
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
