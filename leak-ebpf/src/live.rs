//! Books allocations and frees: site counters and the map of live blocks.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_get_prandom_u32};
use leak_common::{
    counters::Counter,
    keys::{LiveBlock, SiteCounts, SiteKey},
    sampling,
};

use crate::{
    atomic,
    gate::Open,
    maps::{self, LIVE, SITES, TO_NEXT_SAMPLE},
};

/// Is this allocation one to record? Decided before the stack is walked, by bytes.
#[inline(always)]
pub fn sampled(open: &Open, size: u64) -> bool {
    if open.interval == 0 {
        return true;
    }
    let Some(to_go) = TO_NEXT_SAMPLE.get_ptr_mut(0) else { return false };
    // SAFETY: the verifier checked the pointer; the slot is this CPU's, and a lost update shifts one
    // sample.
    unsafe {
        if *to_go > size {
            *to_go -= size;
            maps::count(Counter::SampledOut);
            return false;
        }
        *to_go = sampling::next_distance(open.interval, bpf_get_prandom_u32());
    }
    true
}

/// A block was allocated.
#[inline(always)]
pub fn allocated(open: &Open, site: &SiteKey, address: u64, size: u64) {
    let block = LiveBlock {
        site: *site,
        size,
        born_ns: open.now_ns,
        burst: open.burst,
        interval: open.interval,
    };
    if LIVE.insert(address, block, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
        return;
    }
    add(site, 1, size, 0, 0);
}

/// A block was freed; of no interest unless it was recorded.
#[inline(always)]
pub fn freed(open: &Open, address: u64) {
    let Some(block) = LIVE.get_ptr_mut(address) else { return };
    // SAFETY: the verifier checked the pointer; the block's owner is freeing it, so nobody else
    // writes the entry.
    let (site, burst) = unsafe { ((*block).site, (*block).burst) };
    if LIVE.remove(address).is_err() {
        return;
    }
    if burst == open.burst {
        add(&site, 0, 0, 1, 0);
    } else {
        add(&site, 0, 0, 0, 1);
    }
}

#[inline(always)]
fn add(site: &SiteKey, allocs: u64, bytes: u64, frees: u64, late_frees: u64) {
    if let Some(counts) = SITES.get_ptr_mut(site) {
        // SAFETY: the verifier checked the pointer; the words are only ever added to atomically.
        unsafe {
            let bump = |word: *mut u64, n: u64| {
                if n != 0 {
                    atomic::add(word, n);
                }
            };
            bump(&raw mut (*counts).allocs, allocs);
            bump(&raw mut (*counts).bytes, bytes);
            bump(&raw mut (*counts).frees, frees);
            bump(&raw mut (*counts).late_frees, late_frees);
        }
        return;
    }
    let first = SiteCounts { allocs, bytes, frees, late_frees };
    if SITES.insert(site, first, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}
