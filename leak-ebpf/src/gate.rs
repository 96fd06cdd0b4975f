//! The gate: one variable that opens all probes of a burst and closes them at the same instant, and
//! the account of what the burst has spent of the target's time.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_prandom_u32, bpf_ktime_get_ns,
        generated::bpf_get_ns_current_pid_tgid,
    },
};
use leak_common::{config::Gate, counters::Counter};

use crate::{
    atomic, emit, live, log,
    maps::{self, DEADLINE, GATE, config},
};

/// An open gate, as seen when a probe was hit.
pub struct Open {
    gate: *mut Gate,
    /// The burst.
    pub burst: u64,
    /// When the probe was hit.
    pub now_ns: u64,
    /// See [`Gate::classes`].
    classes: u64,
    /// See [`Gate::told`].
    told: u64,
}

/// Counts the hit; Some if it is the target's and the gate is open.
#[inline(always)]
pub fn enter() -> Option<Open> {
    maps::count(Counter::Hits);
    let gate = GATE.get_ptr_mut(0)?;
    // SAFETY: the verifier checked the pointer; a burst that closes meanwhile is closed for the next hit.
    let burst = unsafe { (*gate).burst };
    if burst == 0 || !is_target() {
        maps::count(Counter::ClosedHits);
        return None;
    }
    // SAFETY: the verifier checked the pointer; hits of two threads that count as one do no harm.
    unsafe {
        if (*gate).skip > 0 {
            (*gate).skip -= 1;
            maps::count(Counter::ClosedHits);
            return None;
        }
    }
    // SAFETY: no precondition.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the verifier checked the pointer.
    let (classes, told) = unsafe { ((*gate).classes, (*gate).told) };
    let open = Open { gate, burst, now_ns, classes, told };
    if now_ns >= deadline()? {
        open.close();
        return None;
    }
    Some(open)
}

impl Open {
    /// Are pymalloc's blocks of this size class, counted from 1, recorded?
    #[inline(always)]
    pub fn records(&self, size_class: u32) -> bool {
        (self.classes >> (size_class.wrapping_sub(1) & 63)) & 1 != 0
    }

    /// Is this block one of those whose end is told?
    #[inline(always)]
    pub fn tells(&self) -> bool {
        // SAFETY: no precondition.
        self.told != 0 && u64::from(unsafe { bpf_get_prandom_u32() }) < self.told
    }

    /// Books what this hit cost; closes the gate when the burst's share is spent.
    #[inline(always)]
    pub fn leave(&self) {
        // SAFETY: the verifier checked the pointer.
        self.book(unsafe { (*self.gate).trap_ns });
    }

    /// The same for a return probe.
    #[inline(always)]
    pub fn leave_return(&self) {
        // SAFETY: the verifier checked the pointer.
        self.book(unsafe { (*self.gate).return_trap_ns });
    }

    /// The same for a hardware breakpoint.
    #[inline(always)]
    pub fn leave_breakpoint(&self) {
        // SAFETY: the verifier checked the pointer.
        self.book(unsafe { (*self.gate).breakpoint_trap_ns });
    }

    #[inline(always)]
    fn book(&self, trap_ns: u64) {
        // SAFETY: no precondition.
        let took = unsafe { bpf_ktime_get_ns() } - self.now_ns;
        // SAFETY: the verifier checked the pointer; the word is only ever added to atomically.
        unsafe { atomic::add(&raw mut (*self.gate).spent_ns, took + trap_ns) };
        // SAFETY: as above.
        if unsafe { (*self.gate).spent_ns >= (*self.gate).limit_ns } {
            self.close();
        }
    }

    #[inline(always)]
    fn close(&self) {
        // A late hit must not close the burst after its own, nor close its own twice.
        // SAFETY: the verifier checked the pointer. Two threads may both find it open: harmless, the
        // user side takes the first record of a burst.
        if unsafe { (*self.gate).burst } != self.burst {
            return;
        }
        // SAFETY: as above.
        unsafe { (*self.gate).burst = 0 };
        // SAFETY: as above.
        if unsafe { (*self.gate).note_content } != 0 {
            // SAFETY: no precondition.
            let began_ns = unsafe { bpf_ktime_get_ns() };
            live::note_content(self.now_ns);
            // SAFETY: no precondition.
            let took = unsafe { bpf_ktime_get_ns() } - began_ns;
            // SAFETY: the verifier checked the pointer; the word is only ever added to atomically.
            unsafe { atomic::add(&raw mut (*self.gate).spent_ns, took) };
        }
        // SAFETY: as above.
        let spent_ns = unsafe { (*self.gate).spent_ns };
        emit::gate_closed(self.burst, spent_ns, self.now_ns);
        log::gate_closed(self.burst, spent_ns);
    }
}

/// When the gate closes.
#[inline(always)]
fn deadline() -> Option<u64> {
    // SAFETY: the verifier checked the pointer; the user side may change the word meanwhile.
    DEADLINE.get_ptr(0).map(|at| unsafe { *at })
}

/// The generation that stack ids are made with.
#[inline(always)]
pub fn generation() -> u64 {
    match GATE.get_ptr_mut(0) {
        // SAFETY: the verifier checked the pointer.
        Some(gate) => unsafe { (*gate).generation },
        None => 0,
    }
}

/// Is the running thread the target's?
#[inline(always)]
pub fn is_target() -> bool {
    if config!(pid_namespace.inode) == 0 {
        return bpf_get_current_pid_tgid() >> 32 == config!(tgid);
    }
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    let (device, inode) = (config!(pid_namespace.device), config!(pid_namespace.inode));
    let size = size_of::<bpf_pidns_info>() as u32;
    // Fails in threads of other namespaces. Linux 5.7.
    // SAFETY: the helper writes no more than it is told.
    let result = unsafe { bpf_get_ns_current_pid_tgid(device, inode, &raw mut ids, size) };
    result == 0 && u64::from(ids.tgid) == config!(tgid)
}
