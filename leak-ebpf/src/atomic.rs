//! Adding to a word that other CPUs add to as well: eBPF's one atomic instruction of old.
//!
//! `core` hides `AtomicU64::fetch_add` on targets without compare-and-swap, which the eBPF target
//! says to be; the intrinsic beneath it compiles to `lock *(u64 *) += …`.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds `n` to `*word`.
///
/// # Safety
/// `word` must point into a map value, and be written by atomic additions alone.
#[inline(always)]
pub unsafe fn add(word: *mut u64, n: u64) {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, n) };
}
