//! The watch tier: what is attached from the first moment to the last.

use aya::programs::{BtfTracePoint, TracePoint};

use super::{
    error::{ProbeError, refused},
    object::Object,
};

/// The end of all system calls: program and tracepoint.
const SYSTEM_CALLS: &str = "sys_exit";

/// Program and tracepoint of the scheduler.
const SCHEDULER: [(&str, &str); 3] = [
    ("process_exit", "sched_process_exit"),
    ("process_exec", "sched_process_exec"),
    ("process_fork", "sched_process_fork"),
];

/// Attaches the tracepoints. They stay until the object is dropped.
///
/// # Errors
/// [`ProbeError::Program`] of the first that failed.
pub fn attach(object: &mut Object) -> Result<(), ProbeError> {
    let calls: &mut BtfTracePoint = object.program(SYSTEM_CALLS)?;
    calls.attach().map_err(refused(SYSTEM_CALLS))?;
    for (name, tracepoint) in SCHEDULER {
        let program: &mut TracePoint = object.program(name)?;
        program.attach("sched", tracepoint).map_err(refused(name))?;
    }
    Ok(())
}
