//! Reading the target's memory from within the target's own thread. Never faults a page in: what is
//! not resident is not read, and the caller counts it.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_probe_read_user, generated};

/// Reads a value.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address; T is plain integers at every use.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Reads a value to a place of the caller's. What is returned by value may lie on the stack twice, and before
/// Linux 6.13 a program and what it calls have 512 bytes of it together.
#[inline(always)]
pub fn read_to<T>(place: &mut MaybeUninit<T>, address: u64) -> Option<&T> {
    let from = address as *const core::ffi::c_void;
    // SAFETY: the helper checks the address, and writes no more than the place holds.
    let failed = unsafe {
        generated::bpf_probe_read_user(place.as_mut_ptr().cast(), size_of::<T>() as u32, from)
    };
    if failed != 0 {
        return None;
    }
    // SAFETY: written; T is plain integers at every use.
    Some(unsafe { place.assume_init_ref() })
}

/// Reads a pointer that must not be NULL.
#[inline(always)]
pub fn pointer(address: u64) -> Option<u64> {
    match read::<u64>(address) {
        Some(0) | None => None,
        some => some,
    }
}
