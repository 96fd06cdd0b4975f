//! Mappings, the program break, and page faults. Always on; other processes pay one comparison.
//!
//! The layout of syscall tracepoint records is fixed: number at 8, arguments from 16 in 8-byte steps;
//! the result at 16.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_pid_tgid,
    macros::{map, perf_event, tracepoint},
    maps::HashMap,
    programs::{PerfEventContext, TracePointContext},
};
use leak_common::{
    counters::Counter,
    event::{MapRecord, kind},
};

use crate::{
    emit, gate,
    maps::{self, FAULTS},
    python,
};

/// System calls under way, by thread.
#[map]
static CALLS: HashMap<u64, MapRecord> = HashMap::with_max_entries(1 << 12, 0);

/// Where the break was, to tell growth from shrinking.
#[map]
static BREAK: HashMap<u64, u64> = HashMap::with_max_entries(1, 0);

#[inline(always)]
fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: within the record of a syscall with this many arguments.
    unsafe { ctx.read_at::<u64>(16 + 8 * n) }.unwrap_or(0)
}

#[inline(always)]
fn begin(record: MapRecord) {
    if CALLS.insert(bpf_get_current_pid_tgid(), record, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

/// Forgets the call that a thread which ends was in.
#[inline(always)]
pub fn forget(thread: u64) {
    // Not there: nothing to forget.
    let _ = CALLS.remove(thread);
}

/// The call that this thread was in, with its result.
#[inline(always)]
fn end(ctx: &TracePointContext) -> Option<(MapRecord, i64)> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its entry.
    let record = unsafe { CALLS.get(thread) }.copied()?;
    CALLS.remove(thread).ok()?;
    // SAFETY: the result of a syscall tracepoint.
    let result = unsafe { ctx.read_at::<i64>(16) }.ok()?;
    Some((record, result))
}

#[inline(always)]
fn blank(kind: u32) -> MapRecord {
    MapRecord {
        header: emit::header(kind),
        address: 0,
        length: 0,
        old_address: 0,
        old_length: 0,
        prot_flags: 0,
        fd: u64::MAX,
        stack: 0,
    }
}

/// mmap and mremap return the address.
#[inline(always)]
fn mapped(ctx: &TracePointContext) -> u32 {
    if gate::is_target() {
        if let Some((record, result)) = end(ctx) {
            if !failed(result) {
                emit::mapping(MapRecord { address: result as u64, ..record });
            }
        }
    }
    0
}

const fn pages(length: u64) -> u64 {
    length.wrapping_add(4095) & !4095
}

/// An error of a system call is -4095..=-1.
const fn failed(result: i64) -> bool {
    result < 0 && result > -4096
}

/// mmap(addr, length, prot, flags, fd, offset)
#[tracepoint]
pub fn mmap_enter(ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        let (prot, flags) = (argument(&ctx, 2) & 0xffff_ffff, argument(&ctx, 3));
        begin(MapRecord {
            length: pages(argument(&ctx, 1)),
            prot_flags: prot | flags << 32,
            fd: argument(&ctx, 4) as u32 as i32 as i64 as u64,
            stack: python::stack_id(),
            ..blank(kind::MMAP)
        });
    }
    0
}

/// Its end.
#[tracepoint]
pub fn mmap_exit(ctx: TracePointContext) -> u32 {
    mapped(&ctx)
}

/// munmap(addr, length)
#[tracepoint]
pub fn munmap_enter(ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        begin(MapRecord {
            address: argument(&ctx, 0),
            length: pages(argument(&ctx, 1)),
            ..blank(kind::MUNMAP)
        });
    }
    0
}

/// Its end.
#[tracepoint]
pub fn munmap_exit(ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        if let Some((record, 0)) = end(&ctx) {
            emit::mapping(record);
        }
    }
    0
}

/// mremap(old, old_length, length, flags, new)
#[tracepoint]
pub fn mremap_enter(ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        begin(MapRecord {
            old_address: argument(&ctx, 0),
            old_length: pages(argument(&ctx, 1)),
            length: pages(argument(&ctx, 2)),
            stack: python::stack_id(),
            ..blank(kind::MREMAP)
        });
    }
    0
}

/// Its end.
#[tracepoint]
pub fn mremap_exit(ctx: TracePointContext) -> u32 {
    mapped(&ctx)
}

/// brk(addr)
#[tracepoint]
pub fn brk_enter(_ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        begin(MapRecord { stack: python::stack_id(), ..blank(kind::BRK) });
    }
    0
}

/// Its end: returns the break, moved or not.
#[tracepoint]
pub fn brk_exit(ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        if let Some((record, result)) = end(&ctx) {
            let now = result as u64;
            // SAFETY: copied at once; a race of two threads is the kernel's to order.
            let before = unsafe { BREAK.get(0) }.copied().unwrap_or(0);
            if now != before {
                // A map of one entry cannot be full.
                let _ = BREAK.insert(0, now, u64::from(BPF_ANY));
                emit::mapping(MapRecord { address: now, old_address: before, ..record });
            }
        }
    }
    0
}

/// Every n-th page fault of the target's threads.
#[perf_event]
pub fn page_fault(_ctx: PerfEventContext) -> u32 {
    if gate::is_target() {
        let stack = python::stack_id();
        if let Some(faults) = FAULTS.get_ptr_mut(stack) {
            // SAFETY: the verifier checked the pointer; a lost increment is within the sampling error.
            unsafe { *faults += 1 };
        } else if FAULTS.insert(stack, 1, u64::from(BPF_ANY)).is_err() {
            maps::count(Counter::MapFull);
        }
    }
    0
}
