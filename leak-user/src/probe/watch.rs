//! The watch tier: what is attached from the first moment to the last.

use aya::programs::{BtfTracePoint, TracePoint};

use super::{
    error::{ProbeError, refused},
    object::Object,
};

/// Programs named after their tracepoints: the end of all system calls, births.
const TYPED: [&str; 2] = ["sys_exit", "sched_process_fork"];

/// Program and tracepoint of the scheduler.
const SCHEDULER: [(&str, &str); 2] =
    [("process_exit", "sched_process_exit"), ("process_exec", "sched_process_exec")];

/// Attaches the tracepoints. They stay until the object is dropped.
///
/// # Errors
/// [`ProbeError::Program`] of the first that failed.
pub fn attach(object: &mut Object) -> Result<(), ProbeError> {
    for name in TYPED {
        let program: &mut BtfTracePoint = object.program(name)?;
        program.attach().map_err(refused(name))?;
    }
    for (name, tracepoint) in SCHEDULER {
        let program: &mut TracePoint = object.program(name)?;
        program.attach("sched", tracepoint).map_err(refused(name))?;
    }
    Ok(())
}
