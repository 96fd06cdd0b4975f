//! Reading the target's memory from within the target's own thread. Never faults a page in: what is
//! not resident is not read, and the caller counts it.

use aya_ebpf::helpers::bpf_probe_read_user;

/// Reads a value.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address; T is plain integers at every use.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Reads a pointer that must not be NULL.
#[inline(always)]
pub fn pointer(address: u64) -> Option<u64> {
    match read::<u64>(address) {
        Some(0) | None => None,
        some => some,
    }
}
