//! pymalloc's own structures, read from outside; the memory is made up, so that no system call is in it.

mod fixture;
#[expect(dead_code, reason = "unit tests use the rest")]
#[path = "../src/heap/testing.rs"]
mod testing;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{SIZES, ThreadTime, named};
// What the unit tests' fixtures call `crate::…`.
use leaktrace::{target, units};

use leaktrace::heap::pymalloc::{BlockState, Blocks, CLASSES, PoolHeader, census};
use target::Pymalloc;
use testing::FakeMemory;
use units::Addr;

const VARIABLES: u64 = 0x1000_0000;
const ARRAY: u64 = 0x2000_0000;
const FIRST_ARENA: u64 = 0x7f00_0000_0000;

const ARENA: u64 = 1 << 20;
const POOL: u64 = 16 << 10;
const POOLS_OF_ARENA: u64 = ARENA / POOL;

/// Bytes of an entry in the array of arenas, and of a pool's header.
const ENTRY: u64 = 48;
const HEADER: u64 = 48;

/// Blocks asked of one pool.
const ASKED_OF_POOL: usize = 10;

/// A heap of so many pools, their size classes in turn; in each, every fourth block is free.
struct Heap {
    memory: FakeMemory,
    state: Pymalloc,
    /// Some live blocks of each pool.
    live: Vec<Addr>,
}

impl Heap {
    fn new(pools: usize) -> Self {
        let arenas = (pools as u64).div_ceil(POOLS_OF_ARENA);
        let mut memory = FakeMemory::default();
        memory.map(VARIABLES, 16);
        memory.put(VARIABLES, ARRAY);
        memory.put_half(VARIABLES + 8, arenas as u32);
        memory.map(ARRAY, (arenas * ENTRY) as usize);
        for arena in 0..arenas {
            let (entry, start) = (ARRAY + arena * ENTRY, FIRST_ARENA + arena * ARENA);
            let used = (pools as u64 - arena * POOLS_OF_ARENA).min(POOLS_OF_ARENA);
            memory.map(start, ARENA as usize);
            memory.put(entry, start);
            memory.put(entry + 8, start + used * POOL);
            memory.put_half(entry + 20, POOLS_OF_ARENA as u32);
        }
        let state = Pymalloc {
            usedpools: Addr(0),
            arenas: Addr(VARIABLES),
            maxarenas: Addr(VARIABLES + 8),
            usable_arenas: None,
            pool_size: POOL,
            arena_size: ARENA,
        };
        let mut heap = Self { memory, state, live: Vec::new() };
        (0..pools as u64).for_each(|pool| heap.fill(pool));
        heap
    }

    fn fill(&mut self, number: u64) {
        let pool = FIRST_ARENA + number * POOL;
        let index = number % CLASSES as u64;
        let size = (index + 1) * 16;
        let capacity = PoolHeader::capacity(size, POOL);
        let block = |at: u64| pool + HEADER + at * size;
        let free: Vec<u64> = (0..capacity).step_by(4).map(block).collect();
        self.memory.put_half(pool, (capacity - free.len() as u64) as u32);
        self.memory.put(pool + 8, free[0]);
        self.memory.put_half(pool + 32, (number / POOLS_OF_ARENA) as u32);
        self.memory.put_half(pool + 36, index as u32);
        self.memory.put_half(pool + 40, (HEADER + capacity * size) as u32);
        free.windows(2).for_each(|pair| self.memory.put(pair[0], pair[1]));
        let live = (0..capacity).filter(|at| at % 4 != 0).map(block);
        self.live.extend(live.take(ASKED_OF_POOL).map(Addr));
    }
}

fn pymalloc(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("heap");
    for n in SIZES {
        let heap = Heap::new(n);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(named("census", format!("{n} pools")), |bencher| {
            bencher.iter(|| {
                let census = census(&heap.memory, &heap.state).expect("a heap");
                assert_eq!((census.used_pools, census.implausible), (n as u64, 0));
            });
        });
    }
    for n in SIZES {
        let heap = Heap::new(n / ASKED_OF_POOL);
        let mut blocks = Blocks::new(heap.state);
        group.throughput(Throughput::Elements(n as u64));
        let size = format!("{} pools, {n} blocks", n / ASKED_OF_POOL);
        group.bench_function(named("blocks, alive or not", size), |bencher| {
            bencher.iter(|| {
                let states = blocks.live(&heap.memory, &heap.live).expect("a heap");
                assert!(states.iter().all(|state| *state == BlockState::Live));
            });
        });
    }
}

criterion_group! { name = benches; config = fixture::criterion(); targets = pymalloc }
criterion_main!(benches);
