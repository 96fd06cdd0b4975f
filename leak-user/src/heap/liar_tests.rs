//! Memory that lies: whatever it says, reading it ends, within bounds and without a panic.

use std::ops::ControlFlow;

use super::objects::{self, Mapped};
use super::references::References;
use super::retention::{self, Case, Roots, Survivor, Wanted};
use super::testing::FakeMemory;
use crate::target::Pymalloc;
use crate::target::layout::{Layout, known_versions, layout};
use crate::target::memory::Memory as _;
use crate::units::{Addr, Bytes};

const START: u64 = 0x10_0000;
const LENGTH: u64 = 64 << 10;
/// `PyType_Type`, `PyCode_Type`; types, objects behind them.
const TYPE: u64 = START;
const TYPES: u64 = 40;
const TYPE_BYTES: u64 = 1024;
const OBJECTS: u64 = START + TYPES * TYPE_BYTES;
const NAMES: u64 = START + LENGTH - 4096;

/// Objects that are asked for their references, over all images and versions; `LEAKTRACE_LIES` says how many else.
const CASES: u64 = 20_000;
const OBJECTS_OF_IMAGE: u64 = 500;
/// Whole heaps that are searched.
const HEAPS: u64 = 200;

/// Types that have references of many forms, and classes.
const KINDS: [&str; 25] = [
    "type",
    "code",
    "dict",
    "list",
    "tuple",
    "set",
    "collections.deque",
    "generator",
    "frame",
    "module",
    "cell",
    "method",
    "function",
    "BaseException",
    "traceback",
    "weakref",
    "functools._lru_cache_wrapper",
    "functools._lru_list_elem",
    "_asyncio.Task",
    "hamt_bitmap_node",
    "object",
    "int",
    "numpy.ndarray",
    "x.Unknown",
    "Note",
];

/// A small generator: the same numbers each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// A word as memory has them, or as a liar would.
    fn word(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => self.below(40),
            2 => u64::MAX - self.below(100),
            3 => self.roll(),
            4 => 1 << self.below(64),
            5 => TYPE + TYPE_BYTES * self.below(TYPES),
            _ => START + 8 * self.below(LENGTH / 8) + u64::from(self.below(20) == 0),
        }
    }
}

/// Types and objects, of words that are thrown.
fn image(dice: &mut Dice, layout: &Layout) -> FakeMemory {
    let mut memory = FakeMemory::default();
    memory.map(START, LENGTH as usize);
    for at in (OBJECTS..NAMES).step_by(8) {
        memory.put(at, dice.word());
    }
    for (n, name) in KINDS.iter().enumerate() {
        memory.write(NAMES + 64 * n as u64, name.as_bytes());
    }
    for n in 0..TYPES {
        let at = TYPE + n * TYPE_BYTES;
        for offset in (0..TYPE_BYTES).step_by(8) {
            memory.put(at + offset, dice.word());
        }
        let kind = if n < 2 { n } else { dice.below(KINDS.len() as u64) };
        memory.put(at, 1 + dice.below(9));
        memory.put(at + layout.object.class, TYPE);
        memory.put(at + layout.types.name, NAMES + 64 * kind);
        memory.put(at + layout.types.basicsize, 16 + 8 * dice.below(40));
        memory.put(at + layout.types.itemsize, [0, 8, 40, 1 << 15][dice.below(4) as usize]);
        let subclass = if n == 0 { 1 << 31 } else { 1 << dice.below(32) };
        memory.put(at + layout.types.flags, subclass | dice.roll() & (1 << 14 | 1 << 9 | 0x1c));
        // The line of its bases may run in a circle.
        memory.put(at + 256, TYPE + TYPE_BYTES * dice.below(TYPES));
    }
    memory
}

fn object(dice: &mut Dice, memory: &mut FakeMemory, layout: &Layout) -> Addr {
    let at = OBJECTS + 16 * dice.below((NAMES - OBJECTS) / 16 - 64) + 64;
    memory.put(at, 1 + dice.below(5));
    memory.put(at + layout.object.class, TYPE + TYPE_BYTES * dice.below(TYPES));
    Addr(at)
}

#[test]
fn references_of_a_liar_end() {
    let layouts: Vec<&'static Layout> = known_versions().filter_map(layout).collect();
    let most = std::env::var("LEAKTRACE_LIES").ok().and_then(|most| most.parse().ok());
    let most: u64 = most.unwrap_or(CASES);
    let (mut dice, mut cases, mut given) = (Dice(0x5eed), 0, 0_u64);
    while cases < most {
        let layout = layouts[dice.below(layouts.len() as u64) as usize];
        let mut memory = image(&mut dice, layout);
        let objects: Vec<Addr> =
            (0..OBJECTS_OF_IMAGE).map(|_| object(&mut dice, &mut memory, layout)).collect();
        let mut references = References::new(&memory, layout, Addr(TYPE), Addr(TYPE + TYPE_BYTES));
        for object in objects {
            let mut seen = 0_u64;
            references.each(object, &mut |_, _| {
                seen += 1;
                ControlFlow::Continue(())
            });
            // No more than all words that there are, for each part of a long line of bases.
            assert!(seen <= 200 * LENGTH / 8, "{seen} references");
            given += seen;
            cases += 1;
        }
    }
    assert!(given > most, "the liar says nothing: {given}");
    println!("{cases} objects, {given} references");
}

#[test]
fn the_search_in_a_liars_heap_ends() {
    let layouts: Vec<&'static Layout> = known_versions().filter_map(layout).collect();
    let (mut dice, mut found) = (Dice(0xfeed), 0);
    for _ in 0..HEAPS {
        let layout = layouts[dice.below(layouts.len() as u64) as usize];
        let mut memory = image(&mut dice, layout);
        let objects: Vec<Addr> =
            (0..OBJECTS_OF_IMAGE).map(|_| object(&mut dice, &mut memory, layout)).collect();
        let lists: Vec<Addr> = (0..3).map(|_| Addr(dice.word() & !7)).collect();
        let pools: Vec<Pymalloc> = (0..dice.below(2))
            .map(|_| Pymalloc {
                usedpools: Addr(dice.word()),
                arenas: Addr(dice.word()),
                maxarenas: Addr(dice.word()),
                usable_arenas: None,
                pool_size: layout.pools[0].pool_size,
                arena_size: layout.pools[0].arena_size,
            })
            .collect();
        let mapped = Mapped::of(vec![(START, START + LENGTH)]);
        let case = Case {
            memory: &memory,
            heap: objects::Heap {
                layout,
                type_type: Addr(TYPE),
                pools: &pools,
                lists: &lists,
                mapped: &mapped,
            },
            roots: &Roots::default(),
            code_type: Addr(TYPE + TYPE_BYTES),
            until: None,
            frozen: false,
        };
        // Either there is an answer, or it is said why not.
        for object in objects.iter().take(20) {
            found += u32::from(retention::why(&case, &Wanted::Object(*object), 10).is_ok());
        }
        let _ = retention::why(&case, &Wanted::Type("dict".to_owned()), 10);
        let survivors = objects.iter().take(20).map(|addr| Survivor {
            addr: *addr,
            size: Bytes(dice.word()),
            kind: None,
        });
        let _ = retention::kept_by(&case, &[survivors.collect()]);
        assert!(memory.word(Addr(START)).is_ok());
    }
    assert!(found > 0, "no object of a liar's was ever taken for one");
}
