//! Books allocations and frees: site counters and the map of live blocks.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_for_each_map_elem};
use leak_common::{
    counters::Counter,
    keys::{CONTENT_WORDS, LiveBlock, SiteCounts, SiteKey},
};

use crate::{
    atomic,
    gate::Open,
    maps::{self, LIVE, SITES, WATCHED},
    user,
};

/// A block was allocated.
#[inline(always)]
pub fn allocated(open: &Open, site: &SiteKey, address: u64, size: u64) {
    let block = LiveBlock {
        site: *site,
        size,
        born_ns: open.now_ns,
        burst: open.burst,
        noted_ns: 0,
        header: 0,
        content: [0; CONTENT_WORDS],
    };
    if LIVE.insert(address, block, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
        return;
    }
    add(site, size);
}

/// A block was freed; of no interest unless it was recorded.
#[inline(always)]
pub fn freed(address: u64) {
    // Not there: nothing to forget.
    let _ = LIVE.remove(address);
}

/// What lay there since an earlier burst is gone: it was freed, or the place is handed out anew.
#[inline(always)]
pub fn gone(open: &Open, address: u64) {
    if let Some(gone) = WATCHED.get_ptr_mut(address) {
        // SAFETY: the verifier checked the pointer; who comes first is the kernel's to order.
        unsafe {
            if *gone == 0 {
                *gone = open.now_ns;
            }
        }
    }
}

/// Counts an allocation.
#[inline(always)]
fn add(site: &SiteKey, size: u64) {
    if let Some(counts) = SITES.get_ptr_mut(site) {
        // SAFETY: the verifier checked the pointer; the words are only ever added to atomically.
        unsafe {
            atomic::add(&raw mut (*counts).allocs, 1);
            atomic::add(&raw mut (*counts).bytes, size);
        }
        return;
    }
    let first = SiteCounts { allocs: 1, bytes: size };
    if SITES.insert(site, first, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

/// Notes what every recorded block holds, in the thread that closes the gate. Where that thread holds
/// the GIL, no Python block can change hands meanwhile: a block that is freed and handed out again a
/// moment later will be told apart by its content.
#[inline(always)]
pub fn note_content(now_ns: u64) {
    let mut now_ns = now_ns;
    // SAFETY: the kernel verifies the callback against the map and this context.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const LIVE).cast_mut().cast(),
            note_block as *mut c_void,
            (&raw mut now_ns).cast(),
            0,
        );
    }
}

#[inline(never)]
extern "C" fn note_block(
    _map: *mut c_void,
    key: *const u64,
    value: *mut LiveBlock,
    now_ns: *const u64,
) -> i64 {
    // SAFETY: the kernel passes a key and a value of this map, and the context of `note_content`.
    let (address, block, now_ns) = unsafe { (*key, &mut *value, *now_ns) };
    if let Some(content) = user::read(address) {
        block.content = content;
        block.header = user::read(address.wrapping_sub(8)).unwrap_or(0);
        block.noted_ns = now_ns;
    }
    0
}
