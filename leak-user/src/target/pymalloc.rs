//! Where pymalloc keeps its state.
//!
//! From 3.12 on it is a structure whose place the layout knows. Before, it is static variables: by
//! symbol where the file has any, else by their shape. `usedpools` refers to itself or to pools that
//! lead back to it, and `arenas` is the array whose entries hold those pools. Whatever the way, the
//! result has passed the same checks.

use std::collections::HashSet;

use super::Pymalloc;
use super::decode;
use super::error::TargetError;
use super::files::Loaded;
use super::layout::{Layout, Obmalloc, PoolLayout};
use super::memory::Memory;
use super::python::Interpreter;
use crate::units::{Addr, Pid};

/// Size classes of 16 bytes each, up to 512 bytes; `usedpools` has two pointers for each.
const CLASSES: u64 = 32;
/// `sizeof(struct arena_object)`: address, pool_address, nfreepools, ntotalpools, freepools, nextarena,
/// prevarena.
const ARENA_OBJECT: u64 = 48;
/// `INITIAL_ARENA_OBJECTS`; the array then doubles.
const MIN_ARENAS: u32 = 16;
/// 16 TiB of arenas.
const MAX_ARENAS: u32 = 1 << 24;
/// `struct _obmalloc_state` (3.12 and later): offsets of mgmt.arenas, maxarenas, usable_arenas.
const STATE: (u64, u64, u64) = (512, 520, 536);
/// The most of a writable segment that is searched.
const MAX_SEGMENT: u64 = 64 << 20;
/// Reads of structures that the running target may be changing.
const TRIES: usize = 16;

/// Finds it; None where pymalloc holds no memory (it is not in use).
///
/// `malloc` is the function behind the `obj` domain.
///
/// # Errors
/// [`TargetError::NoSuchProcess`], [`TargetError::Forbidden`].
pub fn find(
    pid: Pid,
    memory: &impl Memory,
    interpreter: &Interpreter,
    malloc: Addr,
) -> Result<Option<Pymalloc>, TargetError> {
    let possible = interpreter.layout.pools;
    let Some(state) = state(pid, memory, interpreter)? else {
        let file = &interpreter.file;
        let find = |sizes: &PoolLayout| {
            by_symbol(memory, file, *sizes).or_else(|| by_shape(memory, file, malloc, *sizes))
        };
        return Ok(possible.iter().find_map(find));
    };
    let (arenas, maxarenas, usable) = STATE;
    let mut found = possible.iter().map(|sizes| Pymalloc {
        usedpools: state,
        arenas: state.offset(arenas),
        maxarenas: state.offset(maxarenas),
        usable_arenas: Some(state.offset(usable)),
        pool_size: sizes.pool_size,
        arena_size: sizes.arena_size,
    });
    Ok(found.find(|found| is_valid(memory, found)))
}

/// Interpreters whose own state is looked for.
const MAX_STATES: usize = 1024;

/// The states of all interpreters, each once, given the main one's: from 3.12 on an interpreter can have its own. And how
/// many of those make no sense.
#[must_use]
pub fn of_all(
    memory: &impl Memory,
    layout: &Layout,
    interpreters: &[Addr],
    main: Option<Pymalloc>,
) -> (Vec<Pymalloc>, u64) {
    let Some(main) = main else { return (Vec::new(), 0) };
    let state = |interpreter: &Addr| match layout.interpreter.obmalloc {
        Obmalloc::Statics => None,
        Obmalloc::Embedded(offset) => Some(interpreter.offset(offset)),
        Obmalloc::Pointer(offset) => memory.pointer(interpreter.offset(offset)).ok(),
    };
    let mut states: Vec<Addr> = interpreters.iter().filter_map(state).collect();
    states.sort_unstable();
    states.dedup();
    states.retain(|state| *state != main.usedpools);
    let own = states.iter().take(MAX_STATES).map(|state| main.at(*state));
    let all: Vec<Pymalloc> =
        std::iter::once(main).chain(own.filter(|own| is_valid(memory, own))).collect();
    let lost = (states.len() + 1 - all.len()) as u64;
    (all, lost)
}

impl Pymalloc {
    /// The same sizes, in a `struct _obmalloc_state` (3.12 and later).
    fn at(&self, state: Addr) -> Self {
        let (arenas, maxarenas, usable) = STATE;
        Self {
            usedpools: state,
            arenas: state.offset(arenas),
            maxarenas: state.offset(maxarenas),
            usable_arenas: Some(state.offset(usable)),
            ..*self
        }
    }
}

/// Where its state is, where the layout knows.
fn state(
    pid: Pid,
    memory: &impl Memory,
    interpreter: &Interpreter,
) -> Result<Option<Addr>, TargetError> {
    let main = interpreter.main;
    Ok(match interpreter.layout.interpreter.obmalloc {
        Obmalloc::Statics => None,
        Obmalloc::Embedded(offset) => Some(main.offset(offset)),
        Obmalloc::Pointer(offset) => Some(
            memory
                .pointer(main.offset(offset))
                .map_err(|e| TargetError::read(pid, "pymalloc's state", e))?,
        ),
    })
}

fn by_symbol(memory: &impl Memory, file: &Loaded, sizes: PoolLayout) -> Option<Pymalloc> {
    let found = Pymalloc {
        usedpools: file.symbol("usedpools")?,
        arenas: file.symbol("arenas")?,
        maxarenas: file.symbol("maxarenas")?,
        usable_arenas: file.symbol("usable_arenas"),
        pool_size: sizes.pool_size,
        arena_size: sizes.arena_size,
    };
    is_valid(memory, &found).then_some(found)
}

/// For a stripped file.
fn by_shape(
    memory: &impl Memory,
    file: &Loaded,
    malloc: Addr,
    sizes: PoolLayout,
) -> Option<Pymalloc> {
    let segments = writable_segments(memory, file);
    let (usedpools, pools) = segments.iter().find_map(|segment| {
        let places = segment.places(2 * CLASSES as usize);
        places.filter(|(at, words)| looks_like_usedpools(*at, words, sizes)).find_map(|(at, _)| {
            Some((at, used_pools(memory, at, sizes)?)).filter(|(_, pools)| !pools.is_empty())
        })
    })?;
    let (arenas, maxarenas) = counted_by_code(file)
        .into_iter()
        .find(|(arenas, maxarenas)| arenas_hold(memory, *arenas, *maxarenas, &pools, sizes))
        .or_else(|| arenas_by_shape(memory, &segments, &pools, sizes))?;
    let usable_arenas = usable_arenas(memory, file, malloc, arenas, maxarenas);
    let found = Pymalloc {
        usedpools,
        arenas,
        maxarenas,
        usable_arenas,
        pool_size: sizes.pool_size,
        arena_size: sizes.arena_size,
    };
    is_valid(memory, &found).then_some(found)
}

/// A pool with blocks in use and blocks free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pool {
    addr: Addr,
    arena: u32,
}

fn is_valid(memory: &impl Memory, found: &Pymalloc) -> bool {
    let sizes = PoolLayout { pool_size: found.pool_size, arena_size: found.arena_size };
    (0..TRIES).any(|_| {
        used_pools(memory, found.usedpools, sizes).is_some_and(|pools| {
            !pools.is_empty() && arenas_hold(memory, found.arenas, found.maxarenas, &pools, sizes)
        })
    })
}

/// The header of an empty class lies so that its links are its own two words.
fn own_header(usedpools: Addr, class: u64) -> u64 {
    usedpools.0.wrapping_add(class * 16).wrapping_sub(16)
}

/// In this buffer alone: every class is empty or refers to something that could be a pool.
fn looks_like_usedpools(at: Addr, words: &[u64], sizes: PoolLayout) -> bool {
    (0..).zip(words.as_chunks::<2>().0).all(|(class, &[next, previous])| {
        let empty = own_header(at, class);
        let pool = |word: u64| word != 0 && word.is_multiple_of(sizes.pool_size) && word >> 47 == 0;
        next == empty && previous == empty || pool(next) && pool(previous)
    })
}

/// The first pool of every class that has one, each checked to lead back; None: this is not
/// `usedpools`.
fn used_pools(memory: &impl Memory, usedpools: Addr, sizes: PoolLayout) -> Option<Vec<Pool>> {
    let mut pools = Vec::new();
    for class in 0..CLASSES {
        // A pool may just be moving between the lists.
        let found = (0..TRIES).find_map(|_| first_pool(memory, usedpools, class, sizes))?;
        pools.extend(found);
    }
    Some(pools)
}

fn first_pool(
    memory: &impl Memory,
    usedpools: Addr,
    class: u64,
    sizes: PoolLayout,
) -> Option<Option<Pool>> {
    let empty = own_header(usedpools, class);
    let next = memory.pointer(usedpools.offset(class * 16)).ok()?;
    if next.0 == empty {
        return Some(None);
    }
    // `struct pool_header`: ref.count@0, freeblock@8, nextpool@16, prevpool@24, arenaindex@32, szidx@36.
    let mut header = [0; 48];
    memory.read(next, &mut header).ok()?;
    let word = |at| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
    let half = |at| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let leads_back = word(24)? == empty && u64::from(half(36)?) == class;
    (leads_back && next.0.is_multiple_of(sizes.pool_size))
        .then_some(Some(Pool { addr: next, arena: half(32)? }))
}

/// Do these two variables name an array of arenas that holds the pools?
fn arenas_hold(
    memory: &impl Memory,
    arenas: Addr,
    maxarenas: Addr,
    pools: &[Pool],
    sizes: PoolLayout,
) -> bool {
    let (Ok(array), Ok(length)) = (memory.pointer(arenas), memory.half(maxarenas)) else {
        return false;
    };
    is_length(length)
        && pools.iter().all(|p| p.arena < length)
        && array_holds(memory, array, pools, sizes)
}

fn is_length(length: u32) -> bool {
    length.is_power_of_two() && (MIN_ARENAS..=MAX_ARENAS).contains(&length)
}

fn array_holds(memory: &impl Memory, array: Addr, pools: &[Pool], sizes: PoolLayout) -> bool {
    pools.iter().all(|pool| arena_holds(memory, array, *pool, sizes).unwrap_or(false))
}

fn arena_holds(memory: &impl Memory, array: Addr, pool: Pool, sizes: PoolLayout) -> Option<bool> {
    let arena = array.offset(u64::from(pool.arena) * ARENA_OBJECT);
    let address = memory.word(arena).ok()?;
    let (free, total) = (memory.half(arena.offset(16)).ok()?, memory.half(arena.offset(20)).ok()?);
    // One pool is lost where the arena does not begin at a pool boundary.
    let pools = (sizes.arena_size / sizes.pool_size) as u32;
    let counts = free <= total && (pools - 1..=pools).contains(&total);
    Some(counts && address <= pool.addr.0 && pool.addr.0 - address < sizes.arena_size)
}

/// `_Py_GetAllocatedBlocks`, exported up to 3.11, reads both variables: `arenas` as a pointer,
/// `maxarenas` as a u32.
fn counted_by_code(file: &Loaded) -> Vec<(Addr, Addr)> {
    let Some((address, code)) = file.code("_Py_GetAllocatedBlocks") else { return Vec::new() };
    let references = decode::references(&code, address.0);
    let of_size = |size| references.iter().filter(move |r| r.size == size).map(|r| Addr(r.address));
    of_size(8).flat_map(|arenas| of_size(4).map(move |maxarenas| (arenas, maxarenas))).collect()
}

/// The variable with the array's address, and the array's length shortly before it.
fn arenas_by_shape(
    memory: &impl Memory,
    segments: &[Words],
    pools: &[Pool],
    sizes: PoolLayout,
) -> Option<(Addr, Addr)> {
    let mut others = HashSet::new();
    for (at, words) in segments.iter().flat_map(|segment| segment.places(1)) {
        let array = words.first().copied().unwrap_or_default();
        let possible = array != 0 && array % 8 == 0 && array >> 47 == 0;
        if !possible || others.contains(&array) {
            continue;
        }
        if !array_holds(memory, Addr(array), pools, sizes) {
            others.insert(array);
            continue;
        }
        // Other variables may point to the same entry; only `arenas` has its length before it.
        let before = [8, 16, 4, 12].map(|distance| Addr(at.0.wrapping_sub(distance)));
        let length = before.into_iter().find(|l| arenas_hold(memory, at, *l, pools, sizes));
        if let Some(maxarenas) = length {
            return Some((at, maxarenas));
        }
    }
    None
}

/// `allocate_from_new_pool`, which `_PyObject_Malloc` calls, looks at `usable_arenas` first of all.
fn usable_arenas(
    memory: &impl Memory,
    file: &Loaded,
    malloc: Addr,
    arenas: Addr,
    maxarenas: Addr,
) -> Option<Addr> {
    const CODE: u64 = 256;
    let bias = file.module.bias;
    let array = memory.pointer(arenas).ok()?;
    let size = u64::from(memory.half(maxarenas).ok()?) * ARENA_OBJECT;
    let heads_list = |variable: Addr| {
        let Ok(head) = memory.pointer(variable) else { return false };
        let into = head.0.wrapping_sub(array.0);
        let first = || memory.pointer(head.offset(40)).is_ok_and(Addr::is_null);
        head.is_null() || into < size && into.is_multiple_of(ARENA_OBJECT) && first()
    };
    let code = file.elf.bytes(malloc.0.wrapping_sub(bias), CODE);
    decode::callees(&code, malloc.0)
        .into_iter()
        .filter_map(|callee| {
            let code = file.elf.bytes(callee.wrapping_sub(bias), CODE);
            let first = *decode::references(&code, callee).first()?;
            (first.size == 8).then_some(Addr(first.address))
        })
        .find(|variable| (0..TRIES).any(|_| heads_list(*variable)))
}

/// A stretch of the target's memory, as words.
struct Words {
    start: Addr,
    words: Vec<u64>,
}

impl Words {
    /// Every run of `length` words and its address.
    fn places(&self, length: usize) -> impl Iterator<Item = (Addr, &[u64])> {
        let addresses = (0..).map(|index: u64| self.start.offset(index * 8));
        addresses.zip(self.words.windows(length))
    }
}

fn writable_segments(memory: &impl Memory, file: &Loaded) -> Vec<Words> {
    const PIECE: usize = 1 << 16;
    let mut found = Vec::new();
    for segment in file.module.segments.iter().filter(|segment| segment.writable) {
        let first = segment.address.wrapping_add(file.module.bias);
        let start = Addr(first.wrapping_add(first.wrapping_neg() % 8));
        let length =
            segment.memory_size.saturating_sub(start.0.wrapping_sub(first)).min(MAX_SEGMENT);
        let mut bytes = vec![0; length as usize];
        for (index, piece) in (0..).zip(bytes.chunks_mut(PIECE)) {
            if memory.read(start.offset(index * PIECE as u64), piece).is_err() {
                piece.fill(0);
            }
        }
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        found.push(Words { start, words });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::files::Files;
    use crate::target::live::{self, Installed, Script};
    use crate::target::memory::ProcessMemory;
    use crate::target::{process, python};

    const SIZES: PoolLayout = PoolLayout { pool_size: 16 << 10, arena_size: 1 << 20 };

    #[test]
    fn an_untouched_usedpools_refers_to_itself() {
        let at = Addr(0x5000);
        let mut words: Vec<u64> = (0..64).map(|i| own_header(at, i / 2)).collect();
        assert!(looks_like_usedpools(at, &words, SIZES));
        assert!(!looks_like_usedpools(Addr(0x5008), &words, SIZES));
        words[6] = 0x7f00_0000_4000;
        assert!(!looks_like_usedpools(at, &words, SIZES), "a list has two ends");
        words[7] = 0x7f00_0000_8000;
        assert!(looks_like_usedpools(at, &words, SIZES));
        assert!(!looks_like_usedpools(at, &[0; 64], SIZES));
    }

    /// An interpreter with symbols tells whether the search by shape is right.
    #[test]
    fn shape_and_symbols_agree() {
        let Some(python) =
            live::interpreters().into_iter().find(Installed::has_statics_and_symbols)
        else {
            println!("skipped: no CPython 3.11 with symbols");
            return;
        };
        let target = python.spawn(&Script::default());
        let memory = ProcessMemory::new(target.pid());
        let files = Files::new(target.pid(), process::mappings(target.pid()).expect("its maps"));
        let interpreter = python::find(target.pid(), &files, memory, "").expect("an interpreter");
        let malloc = interpreter.file.symbol("_PyObject_Malloc").expect("symbols");
        let sizes = interpreter.layout.pools[0];
        let symbols = by_symbol(&memory, &interpreter.file, sizes);
        assert!(symbols.is_some_and(|found| found.usable_arenas.is_some()));
        assert_eq!(by_shape(&memory, &interpreter.file, malloc, sizes), symbols);
        // The same without the help of `_Py_GetAllocatedBlocks`.
        let segments = writable_segments(&memory, &interpreter.file);
        let found = symbols.expect("checked above");
        let pools = used_pools(&memory, found.usedpools, sizes).expect("pools");
        assert_eq!(
            arenas_by_shape(&memory, &segments, &pools, sizes),
            Some((found.arenas, found.maxarenas))
        );
    }
}
