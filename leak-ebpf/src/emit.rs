//! Records for the ring buffer. Where it is full, the record is lost and counted.
//!
//! To wake the reader costs the target some 15 µs (an interrupt to another core), ten times as much as
//! the record itself. The reader comes by on its own many times a second; it is woken only for what
//! can't wait, or when the ring fills.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use leak_common::{
    counters::Counter,
    event::{FREED_WORDS, FreedRecord, GateRecord, Header, MapRecord, ProcessRecord, kind},
    gpu,
};

use crate::maps::{self, RING, RING_BYTES};

/// The start of a record of this thread, now.
#[inline(always)]
pub fn header(kind: u32) -> Header {
    // SAFETY: no precondition.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    Header { kind, tid: bpf_get_current_pid_tgid() as u32, time_ns }
}

/// How to submit a record that can wait: wakes the reader only where the ring is half full.
#[inline(always)]
pub fn unhurried() -> u64 {
    let waiting = RING.query(u64::from(BPF_RB_AVAIL_DATA));
    let half = u64::from(RING_BYTES) / 2;
    u64::from(if waiting < half { BPF_RB_NO_WAKEUP } else { BPF_RB_FORCE_WAKEUP })
}

#[inline(always)]
fn send<T: 'static>(record: T, flags: u64) {
    match RING.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(flags);
        }
        None => maps::count(Counter::RingFull),
    }
}

/// The kernel closed the gate; wakes the reader at once, since every hit from now on is for nothing.
#[inline(always)]
pub fn gate_closed(burst: u64, spent_ns: u64, time_ns: u64) {
    let header = Header { time_ns, ..header(kind::GATE_CLOSED) };
    send(GateRecord { header, burst, spent_ns }, u64::from(BPF_RB_FORCE_WAKEUP));
}

/// A block of pymalloc's is about to be freed.
#[inline(always)]
pub fn freed(size: u64, content: [u64; FREED_WORDS]) {
    send(FreedRecord { header: header(kind::FREED), size, content }, unhurried());
}

/// A mapping changed.
#[inline(always)]
pub fn mapping(record: MapRecord) {
    send(record, unhurried());
}

/// A rare call of a GPU's library.
#[inline(always)]
pub fn gpu(record: gpu::Record) {
    send(record, unhurried());
}

/// A thread or process was born, ended or replaced its program.
#[inline(always)]
pub fn process(kind: u32, tgid: u64, subject: u64) {
    send(ProcessRecord { header: header(kind), tgid, subject }, unhurried());
}
