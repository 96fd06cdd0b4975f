//! The target's threads and children: fork, exec, exit.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use leak_common::event::kind;

use super::{gpu, malloc};
use crate::{emit, gate, log, maps::config};

/// `sched:sched_process_exit`: a thread ended.
#[tracepoint]
pub fn process_exit(_ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        let whole = bpf_get_current_pid_tgid();
        malloc::forget(whole);
        gpu::forget(whole);
        let thread = whole & 0xffff_ffff;
        emit::process(kind::EXIT, config!(tgid), thread);
        log::exited(thread);
    }
    0
}

/// `sched:sched_process_exec`: the process replaced its program.
#[tracepoint]
pub fn process_exec(_ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        emit::process(kind::EXEC, config!(tgid), 0);
        log::executed(config!(tgid));
    }
    0
}

/// `sched_process_fork(parent, child)`: a thread or a child was born; of interest are children.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    if gate::is_target() {
        let child = ctx.arg::<*const u8>(1);
        let pid = number(child, config!(task_pid));
        if pid == number(child, config!(task_tgid)) {
            emit::process(kind::FORK, config!(tgid), pid);
            log::forked(pid);
        }
    }
    0
}

/// A process or thread id of a task; 0 where it can't be read.
#[inline(always)]
fn number(task: *const u8, offset: u64) -> u64 {
    // SAFETY: the helper checks the address.
    let read = unsafe { bpf_probe_read_kernel(task.wrapping_add(offset as usize).cast::<u32>()) };
    read.map_or(0, u64::from)
}
