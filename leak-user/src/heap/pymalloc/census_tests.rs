use super::*;
use crate::heap::testing::{Changing, FakeMemory, PRINT_RUNTIME, Python, interpreters, pymalloc};

pub(crate) const ARENAS: u64 = 0x1000_0000;
pub(crate) const ARRAY: u64 = 0x2000_0000;
pub(crate) const ARENA: u64 = 0x7f00_0010_1000;
pub(crate) const POOL: u64 = 0x7f00_0010_4000;

/// One arena, not aligned to pools, whose first three pools were used.
pub(crate) fn fake() -> (FakeMemory, Pymalloc) {
    let mut memory = FakeMemory::default();
    memory.map(ARENAS, 16);
    memory.put(ARENAS, ARRAY);
    memory.put_half(ARENAS + 8, 4);
    memory.map(ARRAY, 4 * 48);
    memory.put(ARRAY + 48, ARENA);
    memory.put(ARRAY + 48 + 8, POOL + 3 * 16384);
    memory.put_half(ARRAY + 48 + 20, 63);
    memory.map(ARENA, 1 << 20);
    pool(&mut memory, POOL, 2, 3, 48 + 4 * 64, POOL + 48 + 64);
    pool(&mut memory, POOL + 16384, 0, 0, 0, 0);
    pool(&mut memory, POOL + 2 * 16384, 1021, 0, 48 + 1021 * 16, 0);
    // Of class 4 (64 bytes), four blocks are carved; 1 and 3 are free.
    memory.put(POOL + 48 + 64, POOL + 48 + 3 * 64);
    let state = Pymalloc {
        usedpools: Addr(0),
        arenas: Addr(ARENAS),
        maxarenas: Addr(ARENAS + 8),
        usable_arenas: None,
        pool_size: 16384,
        arena_size: 1 << 20,
    };
    (memory, state)
}

fn pool(memory: &mut FakeMemory, at: u64, count: u32, index: u32, next: u32, free: u64) {
    memory.put_half(at, count);
    memory.put(at + 8, free);
    memory.put_half(at + 32, 1);
    memory.put_half(at + 36, index);
    memory.put_half(at + 40, next);
}

#[test]
fn counts_blocks_and_space() {
    let (memory, state) = fake();
    let census = census(&memory, &state).unwrap();
    assert_eq!((census.arenas, census.used_pools, census.free_pools), (1, 2, 1));
    assert_eq!(census.untouched_pools, 60);
    assert_eq!((census.live[4], census.live[1], census.live_blocks()), (2, 1021, 1023));
    assert_eq!(census.live_bytes, Bytes(2 * 64 + 1021 * 16));
    assert_eq!(census.free_bytes, Bytes(253 * 64));
    assert_eq!(census.held_free, Bytes(16384));
    let used = census.live_bytes.0 + census.free_bytes.0 + census.overhead.0;
    assert_eq!(used, 2 * 16384, "used pools are accounted for to the byte");
    assert_eq!((census.unreadable, census.implausible), (0, 0));
}

#[test]
fn nonsense_is_counted_or_refused() {
    let (mut memory, state) = fake();
    memory.put_half(POOL + 36, 77);
    memory.put(ARRAY + 96, 0xdead_beef);
    let found = census(&memory, &state).unwrap();
    assert_eq!((found.implausible, found.live[4]), (2, 0));
    // An arena that is gone by the time its pools are read.
    memory.put(ARRAY + 96, 0x7f11_0000_0000);
    memory.put(ARRAY + 96 + 8, 0x7f11_0000_0000 + 16384);
    assert_eq!(census(&memory, &state).unwrap().unreadable, 1);
    memory.put_half(ARENAS + 8, u32::MAX);
    let refused = census(&memory, &state);
    assert!(matches!(refused, Err(PymallocError::Implausible { what: "maxarenas", .. })));
    let wrong = Pymalloc { pool_size: 3000, ..state };
    assert!(matches!(census(&memory, &wrong), Err(PymallocError::Implausible { .. })));
}

#[test]
fn what_is_just_being_made_is_read_again() {
    let (after, state) = fake();
    // A pool has been counted in, its class is not yet there; an arena's address is, its first pool is not.
    for (at, word) in [(POOL + 36, 0xffff), (ARRAY + 48 + 8, 0)] {
        let mut before = after.clone();
        before.put_half(at, word);
        let late = |left| Changing::new(&before, &after, at, left);
        let found = census(&late(3), &state).unwrap();
        assert_eq!((found.implausible, found.live_blocks()), (0, 1023));
        assert_eq!(census(&late(u32::MAX), &state).unwrap().implausible, 1);
    }
}

#[test]
fn the_last_arena_cannot_wrap_around() {
    let (mut memory, state) = fake();
    memory.put(ARRAY + 48, u64::MAX - 0xfff);
    memory.put(ARRAY + 48 + 8, 0);
    assert_eq!(census(&memory, &state).unwrap().implausible, 1);
}

/// The target says how many blocks are allocated; what lies above 512 bytes it counts too.
const PROGRAM: &str = "
import sys
keep = [object() for _ in range(200000)]
print(sys.getallocatedblocks())
sys.stdin.readline()
keep.extend([object() for _ in range(50000)])
print(0)
sys.stdin.readline()
";

#[test]
fn agrees_with_live_interpreters() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{PROGRAM}"));
        let runtime = python.numbers()[0];
        let said = python.numbers()[0];
        let Some(state) = pymalloc(&python, layout, runtime) else { continue };
        let memory = python.memory();
        let before = census(&memory, &state).unwrap();
        assert_eq!((before.unreadable, before.implausible), (0, 0), "{}", exe.display());
        // Blocks over 512 bytes are in what the target says and not here: a few hundred.
        let ours = before.live_blocks();
        assert!(ours <= said + 50 && ours + 2000 > said, "{}: {ours}, {said}", exe.display());
        python.send("");
        python.line();
        let after = census(&memory, &state).unwrap();
        let grown = after.live[1] - before.live[1];
        assert!((50_000..50_100).contains(&grown), "{}: {grown}", exe.display());
    }
}

/// Not a check but a figure: run with `--ignored --nocapture` in a release build.
#[test]
#[ignore = "measures"]
fn cost_of_a_census() {
    for (exe, layout) in interpreters() {
        let program =
            "keep = [object() for _ in range(6000000)]\nprint(0)\nimport sys\nsys.stdin.readline()";
        let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{program}"));
        let runtime = python.numbers()[0];
        python.line();
        let Some(state) = pymalloc(&python, layout, runtime) else { continue };
        let memory = python.memory();
        let mut best = std::time::Duration::MAX;
        let mut arenas = 0;
        for _ in 0..10 {
            let start = std::time::Instant::now();
            arenas = census(&memory, &state).unwrap().arenas;
            best = best.min(start.elapsed());
        }
        let start = std::time::Instant::now();
        let mut bytes = vec![0; 1 << 20];
        for arena in Arenas::read(&memory, &state).unwrap().as_slice() {
            memory.read(arena.address, &mut bytes).unwrap();
        }
        let whole = start.elapsed();
        println!("{}: {arenas} arenas, headers {best:?}, whole {whole:?}", exe.display());
    }
}
