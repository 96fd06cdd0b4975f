use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::heap::testing::{FakeMemory, Python, interpreters};

/// Python as a driver of malloc and free: `a SIZE` allocates (and fills) and prints the address, `f
/// ADDR` frees, `w ADDR` writes another first word; the rest of what the interpreter does goes on.
const PROGRAM: &str = "
import ctypes, sys
libc = ctypes.CDLL('libc.so.6')
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.gnu_get_libc_version.restype = ctypes.c_char_p
print(libc.gnu_get_libc_version().decode())
for line in sys.stdin:
    what, *numbers = line.split()
    for n in map(int, numbers):
        if what == 'a':
            p = libc.malloc(n)
            ctypes.memset(p, 0x5a, n)
            print(p, end=' ')
        elif what == 'f':
            libc.free(n)
        elif what == 'w':
            ctypes.c_uint64.from_address(n).value = 0x1234567890abcdef
    print()
";

struct Driver {
    python: Python,
}

impl Driver {
    fn run(exe: &Path) -> Self {
        let mut python = Python::run(exe, PROGRAM);
        println!("{}: glibc {}", exe.display(), python.line());
        Self { python }
    }

    fn send(&mut self, what: &str, numbers: &[u64]) -> Vec<u64> {
        let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
        self.python.send(&format!("{what} {}", words.join(" ")));
        let answer = self.python.line();
        // It still works where the answer has arrived: with what it takes and gives back at once.
        self.python.rest();
        answer.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    fn allocate(&mut self, sizes: &[u64]) -> Vec<Addr> {
        self.send("a", sizes).into_iter().map(Addr).collect()
    }

    fn free(&mut self, blocks: &[Addr]) {
        let blocks: Vec<u64> = blocks.iter().map(|p| p.0).collect();
        self.send("f", &blocks);
    }
}

fn see(chunks: &Chunks, memory: &impl Memory, blocks: &[Addr]) -> Vec<(Addr, ChunkSeen)> {
    let seen = chunks.see(memory, blocks);
    blocks.iter().zip(seen).map(|(p, seen)| (*p, seen.expect("a chunk"))).collect()
}

fn every_other(blocks: &[Addr]) -> (Vec<Addr>, Vec<Addr>) {
    let pick = |odd| blocks.iter().skip(odd).step_by(2).copied().collect();
    (pick(0), pick(1))
}

#[test]
fn large_blocks_of_live_processes() {
    for (exe, _) in interpreters() {
        let mut driver = Driver::run(&exe);
        let memory = driver.python.memory();
        let chunks = Chunks::new();
        // The last one keeps the others off the end of the heap.
        let sizes: Vec<u64> = (0..41).map(|i| 2000 + 640 * (i % 7)).collect();
        let blocks = driver.allocate(&sizes);
        let seen = see(&chunks, &memory, &blocks);
        for ((_, seen), size) in seen.iter().zip(&sizes) {
            assert!((*size..size + 32).contains(&seen.usable().0));
        }
        let states = chunks.states(&memory, &seen[..40]);
        assert_eq!(states, [ChunkState::Live; 40], "{}", exe.display());
        let (freed, _) = every_other(&blocks[..40]);
        driver.free(&freed);
        let states = chunks.states(&memory, &seen[..40]);
        for (i, state) in states.iter().enumerate() {
            if i % 2 == 1 {
                assert_eq!(*state, ChunkState::Live, "{}: {i}", exe.display());
            } else {
                // Something may have taken a piece already.
                assert!(matches!(state, ChunkState::Free | ChunkState::Reused), "{i}: {state:?}");
            }
        }
        // Freeing the rest merges all of them: headers in the midst stay as they were.
        driver.free(&blocks[1..40].iter().step_by(2).copied().collect::<Vec<_>>());
        let states = chunks.states(&memory, &seen[..40]);
        let gone = |state| matches!(state, &ChunkState::Free | &ChunkState::Reused);
        assert!(states.iter().all(gone), "{}: {states:?}", exe.display());
    }
}

#[test]
fn mapped_blocks_of_live_processes() {
    for (exe, _) in interpreters() {
        let mut driver = Driver::run(&exe);
        let memory = driver.python.memory();
        let chunks = Chunks::new();
        let blocks = driver.allocate(&[40 << 20, 41 << 20, 42 << 20]);
        let seen = see(&chunks, &memory, &blocks);
        assert!(seen.iter().all(|(_, seen)| seen.size_word & IS_MMAPPED != 0));
        assert!(seen[0].1.usable().0 >= 40 << 20);
        assert_eq!(chunks.states(&memory, &seen), [ChunkState::Live; 3]);
        driver.free(&blocks[1..2]);
        let expected = [ChunkState::Live, ChunkState::Free, ChunkState::Live];
        assert_eq!(chunks.states(&memory, &seen), expected, "{}", exe.display());
    }
}

#[test]
fn small_blocks_of_live_processes() {
    for (exe, _) in interpreters() {
        let mut driver = Driver::run(&exe);
        let memory = driver.python.memory();
        let mut chunks = Chunks::new();
        // Of an odd size each, so that the interpreter does not take them over.
        let sizes: Vec<u64> = (0..20).map(|i| 520 + 16 * i).collect();
        let blocks = driver.allocate(&sizes);
        let seen = see(&chunks, &memory, &blocks);
        let (freed, kept) = every_other(&blocks);
        driver.free(&freed);
        let states = chunks.states(&memory, &seen);
        for i in (1..20).step_by(2) {
            assert_eq!(states[i], ChunkState::Live, "{}", exe.display());
        }
        for state in states.iter().step_by(2) {
            assert_eq!(*state, ChunkState::Free, "by its link: {}", exe.display());
        }
        assert!(!chunks.has_key());
        assert!(chunks.learn(&memory, &freed), "{}", exe.display());
        // A block at work is not the same any more, and alive.
        driver.send("w", &kept.iter().map(|p| p.0).collect::<Vec<_>>());
        let states = chunks.states(&memory, &seen);
        for (i, state) in states.iter().enumerate() {
            let expected = if i % 2 == 0 { ChunkState::Free } else { ChunkState::Live };
            assert_eq!(*state, expected, "{}: {i}", exe.display());
        }
    }
}

#[test]
fn fast_bins_of_live_processes() {
    for (exe, _) in interpreters() {
        let mut driver = Driver::run(&exe);
        let memory = driver.python.memory();
        let mut chunks = Chunks::new();
        let blocks = driver.allocate(&[100; 40]);
        let seen = see(&chunks, &memory, &blocks);
        driver.free(&blocks[..20]);
        chunks.learn(&memory, &blocks[..20]);
        // Twenty blocks of one size: seven went to the cache, the rest to a fast bin, where what they
        // held before is left at the key's place. None of it may be taken for the key.
        let states = chunks.states(&memory, &seen);
        assert_eq!(states[20..], [ChunkState::Live; 20], "{}: {states:?}", exe.display());
        let live = states[..20].iter().filter(|state| **state == ChunkState::Live).count();
        assert_eq!(live, 0, "{}: {states:?}", exe.display());
    }
}

const HEAP: u64 = 0x5555_0000_0000;

/// Chunks one after the other, all allocated, with a sentinel at the end.
fn heap(sizes: &[u64]) -> (FakeMemory, Vec<Addr>) {
    let mut memory = FakeMemory::default();
    memory.map(HEAP, 1 << 16);
    let (mut at, mut blocks) = (HEAP, Vec::new());
    for size in sizes {
        memory.put(at + 8, size | PREV_INUSE);
        blocks.push(Addr(at + 16));
        at += size;
    }
    memory.put(at + 8, SENTINEL | PREV_INUSE);
    (memory, blocks)
}

#[test]
fn a_header_that_a_merger_left_behind_is_not_believed() {
    let (mut memory, blocks) = heap(&[2048, 4096, 2048]);
    let chunks = Chunks::new();
    // The first is free; the second is alive.
    memory.put(HEAP + 2048, 2048);
    memory.put(HEAP + 2048 + 8, 4096);
    let seen = see(&chunks, &memory, &blocks[1..]);
    assert_eq!(chunks.states(&memory, &seen), [ChunkState::Live; 2]);
    // Free of all three, merged: only the first header and what follows the last are written.
    memory.put(HEAP + 8, 8192 | PREV_INUSE);
    memory.put(HEAP + 8192 + 8, SENTINEL);
    assert_eq!(chunks.states(&memory, &seen[..1]), [ChunkState::Free]);
}

#[test]
fn other_sizes_and_lost_neighbours() {
    let (mut memory, blocks) = heap(&[2048, 4096]);
    let chunks = Chunks::new();
    let seen = see(&chunks, &memory, &blocks);
    memory.put(HEAP + 8, 1024 | PREV_INUSE);
    assert_eq!(chunks.states(&memory, &seen), [ChunkState::Reused, ChunkState::Live]);
    memory.put(HEAP + 2048 + 4096 + 8, u64::MAX);
    assert_eq!(chunks.states(&memory, &seen[1..]), [ChunkState::Unknown]);
    let nowhere = [Addr(0x10), Addr(HEAP + 8), Addr(HEAP + 64)];
    assert_eq!(chunks.see(&memory, &nowhere), [None; 3]);
    let gone = [(Addr(0x1_0000), seen[0].1)];
    assert_eq!(chunks.states(&memory, &gone), [ChunkState::Free]);
}

#[test]
fn a_key_needs_a_majority() {
    let (mut memory, blocks) = heap(&[64; 8]);
    let mut chunks = Chunks::new();
    for (i, p) in blocks.iter().enumerate() {
        memory.put(p.0, blocks[0].0 ^ (p.0 >> 12));
        memory.put(p.0 + 8, if i < 3 { 77 } else { 100 + i as u64 });
    }
    assert!(!chunks.learn(&memory, &blocks), "three of eight");
    assert!(!chunks.learn(&memory, &blocks[..2]), "too few");
    assert!(chunks.learn(&memory, &blocks[..4]));
    let mut chunks = Chunks::new();
    memory.put(blocks[0].0, 0x5a5a_5a5a_5a5a_5a5a);
    assert!(!chunks.learn(&memory, &blocks[..4]), "one of them is in no list");
}

proptest! {
    #[test]
    fn garbage_does_not_hurt(junk in prop::collection::vec(any::<u8>(), 64), at in 0_u64..64) {
        let (mut memory, blocks) = heap(&[48, 64, 2048]);
        let chunks = Chunks { key: Some(1) };
        let seen = see(&chunks, &memory, &blocks);
        memory.write(HEAP + at, &junk);
        prop_assert_eq!(chunks.states(&memory, &seen).len(), 3);
        let words: Vec<Addr> =
            junk.as_chunks::<8>().0.iter().map(|word| Addr(u64::from_le_bytes(*word))).collect();
        let _ = chunks.see(&memory, &words);
    }
}
