//! The programs that keep a process tree: a child of a member becomes a member before it runs its first
//! instruction, so that none is missed however short it lives. Separate from the other programs, since
//! there is one tree and one set of those for each process observed. Needs Linux 5.17.
#![no_std]
#![no_main]

mod kernel;
mod object;

use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_F_NO_PREALLOC, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
    },
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns,
    },
    macros::{btf_tracepoint, map},
    maps::{HashMap, PerCpuArray, RingBuf},
    programs::BtfTracePointContext,
};
use kernel::field;
use leak_common::tree::{TREE_COUNTERS, TaskConfig, TreeCounter, TreeRecord, kind};

/// Set by the user side before loading; the verifier sees constants.
// SAFETY: integers only, for which all zeros are valid.
#[unsafe(no_mangle)]
pub static TASK: TaskConfig = unsafe { core::mem::zeroed() };

/// Living processes of the tree, by process id: no service has as many.
#[map]
static MEMBERS: HashMap<u32, u32> = HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);

/// 5,000 records; the reader comes by twenty times a second, and is woken where it fills.
const RING_BYTES: u32 = 256 << 10;

/// Births, replaced programs, ends.
#[map]
static TREE_RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// [`TreeCounter`]s.
#[map]
static TREE_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(TREE_COUNTERS as u32, 0);

/// Reads one field of the configuration. Volatile, since the zeros that the compiler sees are not what
/// will be there.
macro_rules! task {
    ($field:ident) => {
        // SAFETY: a field of a static that nobody writes after loading.
        unsafe { core::ptr::read_volatile(&raw const TASK.$field) }
    };
}

#[inline(always)]
fn count(counter: TreeCounter) {
    if let Some(slot) = TREE_COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the verifier checked the pointer; the slot is this CPU's.
        unsafe { *slot += 1 };
    }
}

#[inline(always)]
fn send(kind: u32, pid: u32, parent: u32, shares_memory: u32) {
    // SAFETY: no precondition.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let Some(mut entry) = TREE_RING.reserve::<TreeRecord>(0) else {
        count(TreeCounter::RingFull);
        return;
    };
    let name = bpf_get_current_comm().unwrap_or_default();
    entry.write(TreeRecord { kind, pid, parent, shares_memory, time_ns, name });
    let half = TREE_RING.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(RING_BYTES) / 2;
    entry.submit(u64::from(if half { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }));
}

/// The running process.
#[inline(always)]
fn current() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn is_member(pid: u32) -> bool {
    MEMBERS.get_ptr(&pid).is_some()
}

/// `sched_process_fork(parent, child)`: a thread or a process was made and does not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
fn tree_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = current();
    if !is_member(parent) {
        return 0;
    }
    let child = ctx.arg::<*const u8>(1) as u64;
    let pid: u32 = field(child, task!(tgid));
    if field::<u32>(child, task!(pid)) != pid {
        return 0;
    }
    count(TreeCounter::Born);
    if MEMBERS.insert(&pid, &parent, u64::from(BPF_ANY)).is_err() {
        count(TreeCounter::NoRoom);
        return 0;
    }
    // SAFETY: no precondition.
    let own: u64 = field(unsafe { bpf_get_current_task() }, task!(mm));
    let shares = field::<u64>(child, task!(mm)) == own;
    send(kind::BORN, pid, parent, u32::from(shares));
    0
}

/// `sched_process_exec`: the running process replaced its program.
#[btf_tracepoint(function = "sched_process_exec")]
fn tree_exec(_ctx: BtfTracePointContext) -> i32 {
    let pid = current();
    if is_member(pid) {
        send(kind::EXEC, pid, 0, 0);
    }
    0
}

/// `sched_process_exit`: the running thread ends.
#[btf_tracepoint(function = "sched_process_exit")]
fn tree_exit(_ctx: BtfTracePointContext) -> i32 {
    let pid = current();
    if !is_member(pid) {
        return 0;
    }
    // SAFETY: no precondition.
    let signal: u64 = field(unsafe { bpf_get_current_task() }, task!(signal));
    // Two last threads may both find that none lives: the one that strikes it out tells.
    if field::<u32>(signal, task!(live)) == 0 && MEMBERS.remove(&pid).is_ok() {
        send(kind::ENDED, pid, 0, 0);
    }
    0
}
