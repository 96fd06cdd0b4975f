//! The watch tier: what is attached from the first moment to the last.

use aya::programs::{BtfTracePoint, FExit, TracePoint, fexit::FExitLinkId};

use super::{
    error::{ProbeError, refused},
    object::{Object, kernel_types},
};

/// The program at the end of mmap.
pub const MMAP: &str = "mmap_exit";

/// Programs and the kernel's functions at whose end they run. Linux 5.5, with ftrace.
const CALLS: [(&str, &str); 4] = [
    (MMAP, "__x64_sys_mmap"),
    ("munmap_exit", "__x64_sys_munmap"),
    ("mremap_exit", "__x64_sys_mremap"),
    ("brk_exit", "__x64_sys_brk"),
];

/// What sees the same on other kernels, at every call's end, named after its tracepoint.
const ALL_CALLS: &str = "sys_exit";

/// Named after its tracepoint: births.
const BIRTHS: &str = "sched_process_fork";

/// Program and tracepoint of the scheduler.
const SCHEDULER: [(&str, &str); 2] =
    [("process_exit", "sched_process_exit"), ("process_exec", "sched_process_exec")];

/// The kernel's function at whose end a program runs, or the tracepoint that it is named after.
pub(super) fn place(program: &str) -> &str {
    CALLS.iter().find(|(name, _)| *name == program).map_or(program, |(_, function)| function)
}

/// Attaches what watches. It stays until the object is dropped.
///
/// # Errors
/// [`ProbeError::Program`] of the first that failed.
pub fn attach(object: &mut Object) -> Result<(), ProbeError> {
    // Read once for all of them: that takes as long as verifying most of the programs.
    let _types = kernel_types()?;
    if let Err(error) = attach_to_calls(object) {
        tracing::info!(%error, "every process's system calls are looked at, at some 0.1 µs each");
        attach_typed(object, ALL_CALLS)?;
    }
    attach_typed(object, BIRTHS)?;
    for (name, tracepoint) in SCHEDULER {
        let program: &mut TracePoint = object.program(name)?;
        program.attach("sched", tracepoint).map_err(refused(name))?;
    }
    Ok(())
}

/// All of them or none.
fn attach_to_calls(object: &mut Object) -> Result<(), ProbeError> {
    let types = kernel_types()?;
    let mut attached: Vec<(&str, FExitLinkId)> = Vec::new();
    for (name, function) in CALLS {
        let program: &mut FExit = object.program(name)?;
        let link = program.load(function, &types).and_then(|()| program.attach());
        match link {
            Ok(link) => attached.push((name, link)),
            Err(error) => {
                for (name, link) in attached {
                    let program: &mut FExit = object.program(name)?;
                    program.detach(link).map_err(refused(name))?;
                }
                return Err(refused(name)(error));
            }
        }
    }
    Ok(())
}

fn attach_typed(object: &mut Object, name: &str) -> Result<(), ProbeError> {
    let types = kernel_types()?;
    let program: &mut BtfTracePoint = object.program(name)?;
    program.load(name, &types).map_err(refused(name))?;
    program.attach().map_err(refused(name))?;
    Ok(())
}
