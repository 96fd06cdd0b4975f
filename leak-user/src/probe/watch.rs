//! The watch tier: what is attached from the first moment to the last.

use aya::programs::{Program, TracePoint};

use super::{error::ProbeError, object::Object};

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
        let program: &mut TracePoint = program(object, name)?;
        program.attach(category, tracepoint).map_err(refused(name))?;
    }
    Ok(())
}

pub(super) fn program<'a, P>(
    object: &'a mut Object,
    name: &'static str,
) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    object
        .ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| ProbeError::Missing(name.to_owned()))
}

pub(super) fn refused(program: &'static str) -> impl Fn(aya::programs::ProgramError) -> ProbeError {
    move |source| ProbeError::Program { program: program.to_owned(), source: Box::new(source) }
}
