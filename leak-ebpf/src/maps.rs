//! The configuration and every map, with the reason for its size. The user side may enlarge the
//! maps of blocks and sites before loading (`--exact`).

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use leak_common::{
    config::{Config, Gate},
    counters::{COUNTERS, Counter},
    keys::{LiveBlock, Pending, PoolSeen, SiteCounts, SiteKey},
};

/// Set by the user side before loading; the verifier sees constants.
// SAFETY: integers only, for which all zeros are valid.
#[unsafe(no_mangle)]
pub static CONFIG: Config = unsafe { core::mem::zeroed() };

/// Reads one field of the configuration. Volatile, since the zeros that the compiler sees are not
/// what will be there.
macro_rules! config {
    ($($field:ident).+) => {
        // SAFETY: a field of a static that nobody writes after loading.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::CONFIG.$($field).+) }
    };
}
pub(crate) use config;

/// The one gate.
#[map]
pub static GATE: Array<Gate> = Array::with_max_entries(1, 0);

/// When the gate closes at the latest, `CLOCK_MONOTONIC`. By itself, since the user side sets it while the programs
/// change the gate's words.
#[map]
pub static DEADLINE: Array<u64> = Array::with_max_entries(1, 0);

/// [`Counter`]s.
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS as u32, 0);

/// 4,000 of the longest stacks; the reader empties the ring many times a second.
pub const RING_BYTES: u32 = 4 << 20;

/// Rare records.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Sites: a service of 10,000 distinct stacks with a few size classes each fits.
#[map]
pub static SITES: HashMap<SiteKey, SiteCounts> =
    HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Recorded blocks not seen freed: some thousands a burst, emptied by the user side after each. Small,
/// since the kernel walks it when the gate closes.
#[map]
pub static LIVE: HashMap<u64, LiveBlock> = HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);

/// Blocks that earlier bursts saw born, and when they were seen to go, 0: not. Some thousands, of which the user side
/// wants to know.
#[map]
pub static WATCHED: HashMap<u64, u64> = HashMap::with_max_entries(1 << 13, BPF_F_NO_PREALLOC);

/// Pools touched in this burst: 32,768 are 512 MiB of small objects.
#[map]
pub static POOLS: HashMap<u64, PoolSeen> = HashMap::with_max_entries(1 << 15, BPF_F_NO_PREALLOC);

/// Stacks already sent. The least used go when there are more (each new generation numbers them all
/// anew): then they are sent again, which does no harm.
#[map]
pub static STACKS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1 << 16, 0);

/// Page faults by stack; the least used go, as above.
#[map]
pub static FAULTS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1 << 16, 0);

/// Calls under way, by thread.
#[map]
pub static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count_many(counter: Counter, n: u64) {
    if let Some(slot) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the verifier checked the pointer; the slot is this CPU's, and a task that is
        // preempted between read and write can lose an increment at worst.
        unsafe { *slot += n };
    }
}

/// Counts one.
#[inline(always)]
pub fn count(counter: Counter) {
    count_many(counter, 1);
}
