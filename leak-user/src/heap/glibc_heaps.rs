//! How glibc's malloc uses its heaps: read from the chunks that they consist of, one behind the other.
//!
//! Source: glibc's `malloc/malloc.c` and `malloc/arena.c` (2.26 to 2.43). The main arena's heap is the program's break.
//! Those of other threads' arenas are mappings that begin at multiples of 64 MiB, with a `heap_info`; an arena's first
//! one has the arena's own state behind it. A chunk tells its size, and whether the one before it is free. What the
//! threads' caches and fast bins keep looks like what is in use.

use crate::snapshot::heap::CHeap;
use crate::target::maps::Mapping;
use crate::target::memory::Memory;
use crate::units::Addr;

/// `HEAP_MAX_SIZE`: where heaps of other arenas than the main one begin.
const HEAP_ALIGNMENT: u64 = 64 << 20;

/// `sizeof(heap_info)`: 2.34 and before, later.
const HEAP_INFO: [u64; 2] = [0x20, 0x30];

/// `sizeof(struct malloc_state)`, since 2.26.
const ARENA_STATE: u64 = 0x898;

/// Flags of a chunk's size: the one before is in use; it is a mapping of its own.
const PREV_INUSE: u64 = 1;
const IS_MMAPPED: u64 = 2;
const FLAGS: u64 = 7;

/// No chunk is smaller but the sentinels at a heap's end.
const MIN_CHUNK: u64 = 32;
const SENTINELS: u64 = 64;

/// Bytes read at once.
const PIECE: u64 = 1 << 20;

/// Heaps that change while they are gone through are gone through anew so often.
const TRIES: u32 = 3;

/// More is not gone through.
const MOST: u64 = 16 << 30;

/// A stretch of chunks.
struct Heap {
    /// Where it may begin.
    starts: Vec<Addr>,
    end: Addr,
}

/// All heaps of a process whose malloc is glibc's; `mappings` are the process's, at the time that it is asked.
#[must_use]
pub fn read<M: Memory>(memory: &M, mappings: impl Fn() -> Vec<Mapping>) -> CHeap {
    let mut found = CHeap::default();
    // One that grows meanwhile goes on behind the end that it had.
    for _ in 0..TRIES {
        found = sum(memory, &mappings());
        if found.unknown_bytes == 0 {
            break;
        }
    }
    found
}

fn sum<M: Memory>(memory: &M, mappings: &[Mapping]) -> CHeap {
    let mut sum = CHeap::default();
    let mut left = MOST;
    for heap in heaps(memory, mappings) {
        let bytes = heap.starts.first().map_or(0, |start| heap.end.0 - start.0);
        sum.heaps += 1;
        let may = left.checked_sub(bytes);
        left = may.unwrap_or(left);
        match may.and_then(|_| heap.walk(memory)) {
            Some(found) => {
                sum.in_use_bytes += found.in_use_bytes;
                sum.free_bytes += found.free_bytes;
                sum.free_chunks += found.free_chunks;
                sum.top_bytes += found.top_bytes;
            }
            None => sum.unknown_bytes = sum.unknown_bytes.saturating_add(bytes),
        }
    }
    sum
}

fn heaps<M: Memory>(memory: &M, mappings: &[Mapping]) -> Vec<Heap> {
    let mut found = Vec::new();
    for mapping in mappings.iter().filter(|one| one.readable && one.writable) {
        let (start, end) = (mapping.start, mapping.end);
        if mapping.path == "[heap]" {
            found.push(Heap { starts: vec![start], end });
        } else if mapping.file.is_none() && mapping.path.is_empty() {
            // Neighbours are one mapping.
            let first = start.0.next_multiple_of(HEAP_ALIGNMENT);
            for start in (first..end.0).step_by(HEAP_ALIGNMENT as usize) {
                found.extend(arena_heap(memory, Addr(start), end));
            }
        }
    }
    found
}

/// The heap of another arena than the main one, if there is one in a mapping.
fn arena_heap<M: Memory>(memory: &M, start: Addr, end: Addr) -> Option<Heap> {
    let arena = memory.pointer(start).ok()?;
    let size = memory.word(start.offset(16)).ok()?;
    let committed = memory.word(start.offset(24)).ok()?;
    let length = (end.0 - start.0).min(HEAP_ALIGNMENT);
    let is_one = size >= MIN_CHUNK && size <= committed && committed <= length;
    if !is_one || !size.is_multiple_of(4096) {
        return None;
    }
    let first = |after: u64| Addr((after + 16).next_multiple_of(16) - 16);
    let starts = if arena.0 & !(HEAP_ALIGNMENT - 1) == start.0 {
        let info = arena.0 - start.0;
        HEAP_INFO.contains(&info).then(|| vec![first(arena.0 + ARENA_STATE)])?
    } else {
        // Of a heap that goes on, it isn't said how long its head is.
        HEAP_INFO.map(|info| first(start.0 + info)).to_vec()
    };
    Some(Heap { starts, end: start.offset(size) })
}

impl Heap {
    /// Goes through it from where it may begin; None where no way leads to its end.
    fn walk<M: Memory>(&self, memory: &M) -> Option<CHeap> {
        self.starts.iter().find_map(|start| walk(memory, start.0, self.end.0))
    }
}

/// Goes through all chunks; None where they don't lead to the heap's end.
fn walk<M: Memory>(memory: &M, mut at: u64, end: u64) -> Option<CHeap> {
    let mut found = CHeap::default();
    let mut piece = Vec::new();
    let mut piece_at = 0;
    // The chunk before, of which it isn't known yet whether it is free.
    let mut before: Option<u64> = None;
    while end.saturating_sub(at) > SENTINELS {
        let held = at.checked_sub(piece_at).filter(|into| into + 16 <= piece.len() as u64);
        let into = match held {
            Some(into) => into,
            None => {
                piece.resize(usize::try_from((end - at).min(PIECE)).ok()?, 0);
                memory.read(Addr(at), &mut piece).ok()?;
                piece_at = at;
                0
            }
        };
        let word = piece.get(usize::try_from(into).ok()? + 8..)?.first_chunk()?;
        let word = u64::from_le_bytes(*word);
        let size = word & !FLAGS;
        let fits = size >= MIN_CHUNK && size.is_multiple_of(16) && word & IS_MMAPPED == 0;
        if !fits || size > end - at {
            return None;
        }
        if let Some(before) = before {
            if word & PREV_INUSE == 0 {
                found.free_bytes += before;
                found.free_chunks += 1;
            } else {
                found.in_use_bytes += before;
            }
        }
        before = Some(size);
        at += size;
    }
    // The last one is what is left of the heap.
    found.top_bytes += before?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::{FakeMemory, Python, interpreters};
    use crate::target::process;

    const START: u64 = 0x55_0000_0000;

    fn mapping(start: u64, bytes: u64, path: &str) -> Mapping {
        let text = format!("{start:x}-{:x} rw-p 00000000 00:00 0 {path}\n", start + bytes);
        crate::target::maps::parse(&text).remove(0)
    }

    #[test]
    fn chunks_lead_to_the_end_or_are_not_known() {
        let mut memory = FakeMemory::default();
        memory.map(START, 4096);
        // In use, free, in use, what is left.
        for (at, size, flags) in
            [(0, 0x100, 1), (0x100, 0x200, 1), (0x300, 0x40, 0), (0x340, 0xcc0, 1)]
        {
            memory.put(START + at + 8, size | flags);
        }
        let heap = mapping(START, 4096, "[heap]");
        let expected = CHeap {
            heaps: 1,
            in_use_bytes: 0x140,
            free_bytes: 0x200,
            free_chunks: 1,
            top_bytes: 0xcc0,
            unknown_bytes: 0,
        };
        let look = |memory: &FakeMemory| read(memory, || vec![heap.clone()]);
        assert_eq!(look(&memory), expected);
        for wrong in [0, 17, 1 << 40, 0x40 | IS_MMAPPED] {
            memory.put(START + 0x308, wrong);
            let found = look(&memory);
            assert_eq!((found.unknown_bytes, found.in_use_bytes), (4096, 0), "{wrong:x}");
        }
    }

    #[test]
    fn other_mappings_are_no_heaps() {
        let mut memory = FakeMemory::default();
        let start = 0x7f00_0000_0000;
        memory.map(start, 8192);
        for word in [0, start + 0x30, 7] {
            memory.put(start, word);
            memory.put(start + 16, word);
            memory.put(start + 24, u64::MAX);
            let found = read(&memory, || vec![mapping(start, 8192, "")]);
            assert_eq!(found, CHeap::default());
        }
    }

    /// Holds 100,000 blocks of 1,000 bytes, in the main thread and in another, then frees every other one.
    const PROGRAM: &str = "
import ctypes, sys, threading
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def run():
    blocks = [libc.malloc(1000) for _ in range(100000)]
    print('all', flush=True); sys.stdin.readline()
    for block in blocks[::2]: libc.free(block)
    print('half', flush=True); sys.stdin.readline()
run()
thread = threading.Thread(target=run); thread.start(); thread.join()
";

    #[test]
    fn every_other_block_of_many_is_free() {
        for (exe, layout) in interpreters() {
            let mut python = Python::run(&exe, PROGRAM);
            let memory = python.memory();
            for thread in ["main", "other"] {
                let look = |python: &mut Python| {
                    python.line();
                    // It goes on to allocate what it reads into.
                    python.rest();
                    let pid = python.pid();
                    let found = read(&memory, || process::mappings(pid).unwrap());
                    python.send("");
                    found
                };
                let all = look(&mut python);
                let half = look(&mut python);
                let what = format!("{:?} {thread}: {all:?} {half:?}", layout.version);
                assert_eq!((all.unknown_bytes, half.unknown_bytes), (0, 0), "{what}");
                let (blocks, bytes) = (50_000, 50_000 * 1008);
                let freed = half.free_chunks - all.free_chunks;
                assert!((blocks - 100..=blocks + 100).contains(&freed), "{what}");
                let freed = half.free_bytes - all.free_bytes;
                assert!(freed.abs_diff(bytes) < bytes / 50, "{what}");
                assert!(all.in_use_bytes.abs_diff(half.in_use_bytes).abs_diff(bytes) < bytes / 50);
            }
        }
    }
}
