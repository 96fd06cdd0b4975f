//! The state of the cyclic garbage collector (`struct _gc_runtime_state`).
//!
//! Sources: `Include/internal/pycore_gc.h` and `pycore_interp_structs.h`; the places are [`CollectorLayout`]'s.

use super::types::plausible;
use crate::target::layout::{CollectorLayout, CollectorPlace, CollectorStats, Layout};
use crate::target::memory::{Memory, ReadError};
use crate::units::Addr;

/// Generations, youngest first.
pub const GENERATIONS: usize = 3;

/// `struct gc_generation`: the list's head, `threshold`@16, `count`@20.
const GENERATION_BYTES: u64 = 24;

/// `struct gc_generation_stats` of 3.14 and before: collections, collected, uncollectable.
const STATS_BYTES: u64 = 24;

/// The same of 3.15: what counts begins at 16.
const RING_STATS_BYTES: u64 = 64;
const RING_STATS_AT: u64 = 16;

/// `struct gc_stats` of 3.15: rings of so many, each followed by the index of its latest in a word.
const RINGS: [u64; GENERATIONS] = [11, 3, 3];

/// The lowest bits of a link are flags of the collector's.
pub const LINK_FLAGS: u64 = 3;

/// Lists that change while they are read are read anew so often.
const TRIES: usize = 16;

/// Why the collector's state isn't known.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum CollectorError {
    /// A read failed.
    #[error("the collector's state could not be read: {0}")]
    Read(#[from] ReadError),
    /// Its lists are none.
    #[error("the collector's lists are not where this version has them")]
    Lists,
}

/// An interpreter's collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collector {
    /// Does it run by itself (`gc.isenabled()`)?
    pub enabled: bool,
    /// Was it at work?
    pub collecting: bool,
    /// Youngest first.
    pub generations: [Generation; GENERATIONS],
    /// Have objects been put aside? By `gc.freeze()`, or, in 3.12, those that are immortal by a collection.
    pub frozen: bool,
    /// Objects in `gc.garbage`: those that it could not free.
    pub garbage: u64,
    /// The heads of its lists, the frozen one last.
    pub lists: [Addr; GENERATIONS + 1],
}

/// A generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generation {
    /// What has been counted towards the next collection.
    pub count: i32,
    /// What starts it; 0: never.
    pub threshold: i32,
    /// Collections so far.
    pub collections: u64,
    /// Objects freed by them.
    pub collected: u64,
    /// Objects that could not be freed.
    pub uncollectable: u64,
}

impl Collector {
    /// Reads an interpreter's.
    ///
    /// # Errors
    /// [`CollectorError`].
    pub fn read<M: Memory>(
        memory: &M,
        layout: &Layout,
        runtime: Addr,
        interpreter: Addr,
    ) -> Result<Self, CollectorError> {
        let offsets = &layout.collector;
        let state = match offsets.place {
            CollectorPlace::Runtime(at) => runtime.offset(at),
            CollectorPlace::Interpreter(at) => interpreter.offset(at),
        };
        let first = first_list(memory, state, offsets)?;
        let list = |n: u64| first.offset(n * GENERATION_BYTES);
        let frozen = state.offset(offsets.permanent);
        let mut generations = [Generation::default(); GENERATIONS];
        for (generation, n) in generations.iter_mut().zip(0..) {
            *generation = read_generation(memory, list(n), stats(memory, state, offsets, n)?)?;
        }
        let garbage = memory.pointer(state.offset(offsets.garbage))?;
        let garbage =
            if garbage.is_null() { 0 } else { memory.word(garbage.offset(layout.object.size))? };
        Ok(Self {
            enabled: memory.half(state.offset(offsets.enabled))? != 0,
            collecting: memory.half(state.offset(offsets.collecting))? != 0,
            generations,
            frozen: next(memory, frozen)? != frozen,
            garbage,
            lists: [list(0), list(1), list(2), frozen],
        })
    }
}

/// Where the youngest generation's list begins.
fn first_list<M: Memory>(
    memory: &M,
    state: Addr,
    offsets: &CollectorLayout,
) -> Result<Addr, CollectorError> {
    let is_list = |n: u64, first: Addr| {
        let head = first.offset(n * GENERATION_BYTES);
        let last = memory.pointer(head.offset(8)).ok()?;
        let last = Addr(last.0 & !LINK_FLAGS);
        let after = next(memory, last).ok()?;
        // What joins the youngest goes to its end, in a running process at any time.
        Some(after == head || (n == 0 && plausible(after)))
    };
    for _ in 0..TRIES {
        for at in offsets.generations {
            let first = state.offset(*at);
            if (0..GENERATIONS as u64).all(|n| is_list(n, first) == Some(true)) {
                return Ok(first);
            }
        }
    }
    // A collection takes its time, in which lists are cut and links to the one before are counts: then they must do that
    // lead anywhere at all.
    let leads = |n: u64, first: Addr| {
        let head = first.offset(n * GENERATION_BYTES);
        [0, 8].iter().all(|link| next(memory, head.offset(*link)).is_ok_and(plausible))
    };
    let states = offsets.generations.iter().map(|at| state.offset(*at));
    let mut led = states.filter(|first| (0..GENERATIONS as u64).all(|n| leads(n, *first)));
    led.next().ok_or(CollectorError::Lists)
}

fn next<M: Memory>(memory: &M, link: Addr) -> Result<Addr, ReadError> {
    Ok(Addr(memory.word(link)? & !LINK_FLAGS))
}

/// Where it is counted what a generation's collections have done.
fn stats<M: Memory>(
    memory: &M,
    state: Addr,
    offsets: &CollectorLayout,
    generation: u64,
) -> Result<Addr, ReadError> {
    match offsets.stats {
        CollectorStats::Array(at) => Ok(state.offset(at + generation * STATS_BYTES)),
        CollectorStats::Rings(at) => {
            let all = memory.pointer(state.offset(at))?;
            let ring_bytes = |ring: &u64| ring * RING_STATS_BYTES + 8;
            let before: u64 = RINGS.iter().take(generation as usize).map(ring_bytes).sum();
            let length = RINGS.get(generation as usize).copied().unwrap_or(1);
            let ring = all.offset(before);
            let latest = memory.half(ring.offset(length * RING_STATS_BYTES))? & 0xff;
            let latest = u64::from(latest).min(length - 1);
            Ok(ring.offset(latest * RING_STATS_BYTES + RING_STATS_AT))
        }
    }
}

fn read_generation<M: Memory>(
    memory: &M,
    list: Addr,
    stats: Addr,
) -> Result<Generation, ReadError> {
    Ok(Generation {
        threshold: memory.half(list.offset(16))?.cast_signed(),
        count: memory.half(list.offset(20))?.cast_signed(),
        collections: memory.word(stats)?,
        collected: memory.word(stats.offset(8))?,
        uncollectable: memory.word(stats.offset(16))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::{PRINT_RUNTIME, Python, interpreters};

    /// Collects without end: much to go through, hardly anything to free.
    const COLLECTS: &str = "
import gc
kept = [[n] for n in range(200000)]
print('on', flush=True)
while True: gc.collect()
";

    #[test]
    fn a_collector_at_work_is_read_too() {
        for (exe, layout) in interpreters() {
            let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{COLLECTS}"));
            let runtime = Addr(python.numbers()[0]);
            assert_eq!(python.line(), "on");
            let memory = python.memory();
            let main = memory.pointer(runtime.offset(layout.runtime.interpreters_head)).unwrap();
            let mut at_work = 0;
            for _ in 0..2000 {
                let found = Collector::read(&memory, layout, runtime, main);
                let found = found.unwrap_or_else(|error| panic!("{}: {error}", exe.display()));
                assert_eq!(found.generations[0].threshold.min(700), 700, "{}", exe.display());
                at_work += u32::from(found.collecting);
            }
            assert!(at_work > 0, "{}", exe.display());
        }
    }

    /// Says what its collector says, and goes on only when told to.
    const PROGRAM: &str = "
import gc, sys
class Odd: pass
for _ in range(3):
    a = Odd(); a.self = a; del a
    gc.collect()
gc.collect(0); gc.collect(1)
gc.disable()
gc.set_threshold(701, 11, 7)
print(*[n for g in gc.get_stats() for n in (g['collections'], g['collected'], g['uncollectable'])])
print(gc.get_freeze_count())
sys.stdin.readline()
gc.enable()
gc.garbage.extend([1, 2])
gc.freeze() if not gc.get_freeze_count() else gc.unfreeze()
print(gc.get_freeze_count())
sys.stdin.readline()
";

    #[test]
    fn agrees_with_live_interpreters() {
        for (exe, layout) in interpreters() {
            let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{PROGRAM}"));
            let runtime = Addr(python.numbers()[0]);
            let said = python.numbers();
            let frozen = python.numbers()[0] > 0;
            let memory = python.memory();
            let main = memory.pointer(runtime.offset(layout.runtime.interpreters_head)).unwrap();
            let read = || Collector::read(&memory, layout, runtime, main).unwrap();
            let before = read();
            let counts: Vec<u64> = before
                .generations
                .iter()
                .flat_map(|one| [one.collections, one.collected, one.uncollectable])
                .collect();
            assert_eq!(counts, said, "{}", exe.display());
            assert_eq!(before.generations.map(|one| one.threshold), [701, 11, 7]);
            assert!(!before.enabled && !before.collecting);
            assert_eq!(before.frozen, frozen, "{}", exe.display());
            assert_eq!(before.garbage, 0);
            python.send("");
            let frozen = python.numbers()[0] > 0;
            let after = read();
            assert!(after.enabled, "{}", exe.display());
            assert_eq!(after.frozen, frozen, "{}", exe.display());
            assert_eq!(after.garbage, 2);
        }
    }
}
