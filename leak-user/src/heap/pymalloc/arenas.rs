//! The array of arenas.

use super::{PymallocError, attempts};
use crate::target::Pymalloc;
use crate::target::memory::Memory;
use crate::units::Addr;

/// `struct arena_object`.
const ENTRY_BYTES: usize = 48;

/// 256 GiB of arenas: more than any real heap, less than would hurt here (12 MiB of array).
const MAX_ARENAS: u32 = 1 << 18;

/// An arena in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arena {
    /// Its index in the array, which its pools repeat.
    pub index: u32,
    /// Where it starts.
    pub address: Addr,
    /// Its first pool: `address` rounded up.
    pub first_pool: Addr,
    /// Pools from here on were never used.
    pub untouched: Addr,
    /// Pools that it has room for.
    pub total_pools: u32,
}

/// All arenas at one moment, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arenas {
    arenas: Vec<Arena>,
    arena_size: u64,
    pool_size: u64,
    implausible: u64,
}

impl Arenas {
    /// Reads the array, which is reallocated as it grows.
    ///
    /// # Errors
    /// [`PymallocError`] where it can't be read or is none.
    pub fn read<M: Memory>(memory: &M, state: &Pymalloc) -> Result<Self, PymallocError> {
        check_sizes(state)?;
        let mut latest = None;
        for _ in attempts() {
            let before = variables(memory, state)?;
            let (array, len) = before;
            let mut bytes = vec![0; len as usize * ENTRY_BYTES];
            let read = memory.read(array, &mut bytes);
            if variables(memory, state)? == before {
                read?;
                let arenas = Self::parse(&bytes, state);
                let is_whole = arenas.implausible == 0;
                latest = Some(arenas);
                if is_whole {
                    break;
                }
            }
        }
        latest.ok_or(PymallocError::Moving)
    }

    fn parse(bytes: &[u8], state: &Pymalloc) -> Self {
        let mut arenas = Vec::new();
        let mut implausible = 0;
        for (index, entry) in (0..).zip(bytes.as_chunks::<ENTRY_BYTES>().0) {
            match parse_entry(index, entry, state) {
                Entry::Unused => {}
                Entry::Used(arena) => arenas.push(arena),
                Entry::Implausible => implausible += 1,
            }
        }
        arenas.sort_unstable_by_key(|arena| arena.address);
        let Pymalloc { arena_size, pool_size, .. } = *state;
        Self { arenas, arena_size, pool_size, implausible }
    }

    /// The arenas, by address.
    #[must_use]
    pub fn as_slice(&self) -> &[Arena] {
        &self.arenas
    }

    /// Entries of the array that made no sense.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.implausible
    }

    /// The arena that holds an address.
    #[must_use]
    pub fn find(&self, addr: Addr) -> Option<&Arena> {
        let after = self.arenas.partition_point(|arena| arena.address <= addr);
        let arena = self.arenas.get(after.checked_sub(1)?)?;
        (addr.0 - arena.address.0 < self.arena_size).then_some(arena)
    }

    /// From where to where the arena goes that holds an address.
    #[must_use]
    pub fn span(&self, addr: Addr) -> Option<(u64, u64)> {
        let start = self.find(addr)?.address.0;
        Some((start, start + self.arena_size))
    }

    /// Does an arena hold the address?
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.find(addr).is_some()
    }

    /// The pools that an arena has ever used, in order of address.
    pub(super) fn touched_pools(&self, arena: &Arena) -> impl Iterator<Item = Addr> + use<> {
        let count = (arena.untouched.0 - arena.first_pool.0) / self.pool_size.max(1);
        let (first, step) = (arena.first_pool, self.pool_size);
        (0..count).map(move |i| first.offset(i * step))
    }
}

fn variables<M: Memory>(memory: &M, state: &Pymalloc) -> Result<(Addr, u32), PymallocError> {
    let array = memory.pointer(state.arenas)?;
    let len = memory.half(state.maxarenas)?;
    if len > MAX_ARENAS {
        return Err(PymallocError::Implausible { what: "maxarenas", value: len.into() });
    }
    if len > 0 && (array.is_null() || !array.0.is_multiple_of(8)) {
        return Err(PymallocError::Implausible { what: "arenas", value: array.0 });
    }
    Ok((array, len))
}

fn check_sizes(state: &Pymalloc) -> Result<(), PymallocError> {
    let pool = state.pool_size;
    if !pool.is_power_of_two() || !(4096..=1 << 20).contains(&pool) {
        return Err(PymallocError::Implausible { what: "the pool size", value: pool });
    }
    let arena = state.arena_size;
    if !arena.is_multiple_of(pool) || !(pool..=64 << 20).contains(&arena) {
        return Err(PymallocError::Implausible { what: "the arena size", value: arena });
    }
    Ok(())
}

enum Entry {
    Unused,
    Used(Arena),
    Implausible,
}

/// Fields of `struct arena_object`: address@0, pool_address@8, nfreepools@16, ntotalpools@20.
fn parse_entry(index: u32, entry: &[u8; ENTRY_BYTES], state: &Pymalloc) -> Entry {
    let word = |at: usize| {
        let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let (address, untouched) = (word(0), word(8));
    if address == 0 {
        return Entry::Unused;
    }
    let total_pools = word(16) >> 32;
    let (Some(end), Some(first_pool)) =
        (address.checked_add(state.arena_size), address.checked_next_multiple_of(state.pool_size))
    else {
        return Entry::Implausible;
    };
    // A full arena's `pool_address` is where its last pool ends, at most.
    if !address.is_multiple_of(4096)
        || !untouched.is_multiple_of(state.pool_size)
        || !(first_pool..=end).contains(&untouched)
        || total_pools > state.arena_size / state.pool_size
    {
        return Entry::Implausible;
    }
    Entry::Used(Arena {
        index,
        address: Addr(address),
        first_pool: Addr(first_pool),
        untouched: Addr(untouched),
        total_pools: total_pools as u32,
    })
}
