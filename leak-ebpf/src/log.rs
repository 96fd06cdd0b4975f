//! Rare events in words, for `-v`; never on the path of an allocation.
//!
//! The loader sets `AYA_LOG_LEVEL` before the verifier looks, so that the code behind a level that is
//! off is dead and removed. The functions are not inlined: what a line needs of the stack is then not
//! taken from every program.

use aya_log_ebpf::{debug, info};

/// A burst had spent its share, or was at its end.
#[inline(never)]
pub fn gate_closed(burst: u64, spent_ns: u64) {
    debug!(&(), "gate closed in burst {}: {} ns spent", burst, spent_ns);
}

/// A Python stack could not be read to its end.
#[inline(never)]
pub fn frame_unreadable(frame: u64, depth: u64) {
    debug!(&(), "frame {} at 0x{:x} unreadable: the stack ends there", depth, frame);
}

/// A thread ended.
#[inline(never)]
pub fn exited(thread: u64) {
    debug!(&(), "thread {} ended", thread);
}

/// A child was born.
#[inline(never)]
pub fn forked(child: u64) {
    debug!(&(), "child {} born", child);
}

/// The process replaced its program.
#[inline(never)]
pub fn executed(process: u64) {
    info!(&(), "process {} replaced its program", process);
}
