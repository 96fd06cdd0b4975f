//! The target's threads and children: fork, exec, exit.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};
use leak_common::event::kind;

use super::malloc;
use crate::{emit, gate, log, maps::config};

/// `sched:sched_process_exit`: a thread ended.
#[tracepoint]
pub fn process_exit(_ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        let whole = bpf_get_current_pid_tgid();
        malloc::forget(whole);
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

/// `sched:sched_process_fork`: a thread or a child was born.
#[tracepoint]
pub fn process_fork(ctx: TracePointContext) -> u32 {
    if gate::is_target() {
        let offset = config!(fork_child_offset) as usize;
        // SAFETY: the offset is read from the tracepoint's own format.
        let child = u64::from(unsafe { ctx.read_at::<u32>(offset) }.unwrap_or(0));
        emit::process(kind::FORK, config!(tgid), child);
        log::forked(child);
    }
    0
}
