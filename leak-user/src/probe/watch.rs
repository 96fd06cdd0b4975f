//! The watch tier: what is attached from the first moment to the last.

use aya::programs::{
    PerfEvent, Program, TracePoint,
    perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
};

use super::{error::ProbeError, object::Object};
use crate::units::{Pid, Tid};

/// Program, category, tracepoint.
const TRACEPOINTS: [(&str, &str, &str); 11] = [
    ("mmap_enter", "syscalls", "sys_enter_mmap"),
    ("mmap_exit", "syscalls", "sys_exit_mmap"),
    ("munmap_enter", "syscalls", "sys_enter_munmap"),
    ("munmap_exit", "syscalls", "sys_exit_munmap"),
    ("mremap_enter", "syscalls", "sys_enter_mremap"),
    ("mremap_exit", "syscalls", "sys_exit_mremap"),
    ("brk_enter", "syscalls", "sys_enter_brk"),
    ("brk_exit", "syscalls", "sys_exit_brk"),
    ("process_exit", "sched", "sched_process_exit"),
    ("process_exec", "sched", "sched_process_exec"),
    ("process_fork", "sched", "sched_process_fork"),
];

/// One page fault in so many is looked at.
pub const FAULT_PERIOD: u64 = 64;

/// What a fault that was looked at stands for: so many faults of a page each. Huge pages, and pages
/// of files that are mapped several at a time, are more.
pub const FAULT_BYTES: u64 = FAULT_PERIOD * 4096;

/// Attaches the tracepoints, and page-fault sampling to each of the target's threads; threads born
/// later inherit it. They stay until the object is dropped.
///
/// # Errors
/// [`ProbeError::Program`] of the first that failed.
pub fn attach(object: &mut Object, pid: Pid, threads: &[Tid]) -> Result<(), ProbeError> {
    for (name, category, tracepoint) in TRACEPOINTS {
        let program: &mut TracePoint = program(object, name)?;
        program.attach(category, tracepoint).map_err(refused(name))?;
    }
    let faults: &mut PerfEvent = program(object, "page_fault")?;
    for thread in threads {
        let attached = faults.attach(
            PerfEventConfig::Software(SoftwareEvent::PageFaults),
            PerfEventScope::OneProcess { pid: thread.0, cpu: None },
            SamplePolicy::Period(FAULT_PERIOD),
            true,
        );
        // A thread that ended meanwhile needs none; the main thread has to be there.
        if let (Err(error), true) = (attached, thread.0 == pid.0) {
            return Err(refused("page_fault")(error));
        }
    }
    Ok(())
}

fn program<'a, P>(object: &'a mut Object, name: &'static str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    object
        .ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| ProbeError::Missing(name.to_owned()))
}

fn refused(program: &'static str) -> impl Fn(aya::programs::ProgramError) -> ProbeError {
    move |source| ProbeError::Program { program: program.to_owned(), source: Box::new(source) }
}
