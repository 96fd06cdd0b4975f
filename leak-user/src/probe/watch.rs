//! The watch tier: what is attached from the first moment to the last.

use aya::programs::TracePoint;

use super::{
    error::{ProbeError, refused},
    object::Object,
};

/// Program, category, tracepoint.
const TRACEPOINTS: [(&str, &str, &str); 7] = [
    ("mmap", "syscalls", "sys_exit_mmap"),
    ("munmap", "syscalls", "sys_exit_munmap"),
    ("mremap", "syscalls", "sys_exit_mremap"),
    ("brk", "syscalls", "sys_exit_brk"),
    ("process_exit", "sched", "sched_process_exit"),
    ("process_exec", "sched", "sched_process_exec"),
    ("process_fork", "sched", "sched_process_fork"),
];

/// Attaches the tracepoints. They stay until the object is dropped.
///
/// # Errors
/// [`ProbeError::Program`] of the first that failed.
pub fn attach(object: &mut Object) -> Result<(), ProbeError> {
    for (name, category, tracepoint) in TRACEPOINTS {
        let program: &mut TracePoint = object.program(name)?;
        program.attach(category, tracepoint).map_err(refused(name))?;
    }
    Ok(())
}
