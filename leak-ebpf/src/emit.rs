//! Records for the ring buffer. Where it is full, the record is lost and counted.

use aya_ebpf::{
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use leak_common::{
    counters::Counter,
    event::{GateRecord, Header, MapRecord, ProcessRecord, kind},
};

use crate::maps::{self, RING};

/// The start of a record of this thread, now.
#[inline(always)]
pub fn header(kind: u32) -> Header {
    // SAFETY: no precondition.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    Header { kind, tid: bpf_get_current_pid_tgid() as u32, time_ns }
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

/// A mapping changed.
#[inline(always)]
pub fn mapping(record: MapRecord) {
    send(record, 0);
}

/// A thread or process was born, ended or replaced its program.
#[inline(always)]
pub fn process(kind: u32, tgid: u64, subject: u64) {
    send(ProcessRecord { header: header(kind), tgid, subject }, 0);
}
