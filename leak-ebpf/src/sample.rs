//! Which mappings are recorded: by bytes, decided before the stack is walked.

use aya_ebpf::{helpers::bpf_get_prandom_u32, maps::PerCpuArray};
use leak_common::sampling;

/// Is a mapping of `size` bytes one to record? `to_next` holds the bytes to go until the next one, by CPU;
/// `interval` is the samples' mean distance, 0: all are taken.
#[inline(always)]
pub fn take(to_next: &PerCpuArray<u64>, interval: u64, size: u64) -> bool {
    if interval == 0 {
        return true;
    }
    let Some(to_go) = to_next.get_ptr_mut(0) else { return false };
    // SAFETY: the verifier checked the pointer; the slot is this CPU's, and a lost update shifts one
    // sample.
    unsafe {
        if *to_go > size {
            *to_go -= size;
            return false;
        }
        *to_go = sampling::next_distance(interval, bpf_get_prandom_u32());
    }
    true
}
