//! The one place where a library's error gets its exit code and its hint.

use super::error::CliError;
use super::exit::ExitStatus;
use super::output::OutputError;
use crate::dump::DumpError;
use crate::heap::pymalloc::PymallocError;
use crate::heap::report::HeapError;
use crate::heap::retention::WhyError;
use crate::probe::error::ProbeError;
use crate::session::SessionError;
use crate::sink::SinkError;
use crate::target::TargetError;
use crate::target::freeze::FreezeError;
use crate::target::kernel::KernelError;
use crate::target::memory::ReadError;
use crate::target::privileges::Missing;
use crate::tree::TreeError;

/// What to do where a privilege is missing.
pub(super) const PRIVILEGE_HINT: &str = "run it with sudo, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; `leaktrace doctor` says what is missing";

/// What to do where the kernel refuses.
const KERNEL_HINT: &str =
    "Linux 5.17 or later with BTF is needed; `leaktrace doctor` says what is missing";

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Forbidden { .. } => {
                Self::new(ExitStatus::Unavailable, error).hint(PRIVILEGE_HINT)
            }
            TargetError::ForeignProc => Self::new(ExitStatus::Unavailable, error),
            // The others name the way out themselves.
            TargetError::NoSuchProcess { .. }
            | TargetError::IsThread { .. }
            | TargetError::NotPython { .. }
            | TargetError::OtherArchitecture { .. }
            | TargetError::UnsupportedVersion { .. }
            | TargetError::Unreadable { .. }
            | TargetError::Inconsistent { .. } => Self::new(ExitStatus::Unsuitable, error),
        }
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Forbidden => Self::new(ExitStatus::Unavailable, error).hint(PRIVILEGE_HINT),
            ReadError::Gone => Self::new(ExitStatus::EndedEarly, error),
            ReadError::Unmapped(_) => Self::new(ExitStatus::Unsuitable, error),
        }
    }
}

impl From<DumpError> for CliError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Target(error) => error.into(),
            DumpError::Read(error) => error.into(),
            DumpError::Kernel(error) => error.into(),
            DumpError::Probe(error) => error.into(),
            DumpError::Within => Self::new(ExitStatus::Unavailable, error)
                .hint("run it on the host, or without --native"),
        }
    }
}

impl From<HeapError> for CliError {
    fn from(error: HeapError) -> Self {
        match error {
            HeapError::Target(error) => error.into(),
            HeapError::Read(error) | HeapError::Pymalloc(PymallocError::Read(error)) => {
                error.into()
            }
            HeapError::Why(WhyError::Pymalloc(PymallocError::Read(error))) => error.into(),
            HeapError::Why(WhyError::NoSuchType { ref alike, .. }) => {
                let list = "`leaktrace heap --pid PID --top 100` lists the types that there are";
                let meant = match alike.as_slice() {
                    [] => list.to_owned(),
                    alike => format!("there are {}; {list}", alike.join(", ")),
                };
                Self::new(ExitStatus::Unsuitable, error).hint(meant)
            }
            HeapError::Why(error) => Self::new(ExitStatus::Unsuitable, error),
            HeapError::Freeze(FreezeError::Target(error)) => error.into(),
            HeapError::Freeze(_) => Self::new(ExitStatus::Unavailable, error)
                .hint("look without --freeze, while it runs"),
            HeapError::Pymalloc(_)
            | HeapError::FreeThreaded { .. }
            | HeapError::DebugHooks
            | HeapError::Interpreters(_) => Self::new(ExitStatus::Unsuitable, error),
        }
    }
}

impl From<Missing> for CliError {
    fn from(error: Missing) -> Self {
        let outside = error == Missing::Outside;
        let error = Self::new(ExitStatus::Unavailable, error);
        if outside { error } else { error.hint(PRIVILEGE_HINT) }
    }
}

impl From<KernelError> for CliError {
    fn from(error: KernelError) -> Self {
        Self::new(ExitStatus::Unavailable, error).hint(KERNEL_HINT)
    }
}

impl From<ProbeError> for CliError {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::Load(_)
            | ProbeError::Program { .. }
            | ProbeError::Refused { .. }
            | ProbeError::NoTracefs(_)
            | ProbeError::TracepointFormat(_) => {
                Self::new(ExitStatus::Unavailable, error).hint(KERNEL_HINT)
            }
            ProbeError::Map { .. }
            | ProbeError::Missing(_)
            | ProbeError::Object(_)
            | ProbeError::Keeper(_)
            | ProbeError::NoBurst
            | ProbeError::File { .. } => Self::new(ExitStatus::Failure, error),
        }
    }
}

impl From<SessionError> for CliError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Kernel(error) => error.into(),
            SessionError::Probe(error) => error.into(),
            SessionError::EndedTooEarly(_) => Self::new(ExitStatus::EndedEarly, error),
        }
    }
}

impl From<TreeError> for CliError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Kernel(error) => error.into(),
            TreeError::Probe(error) => error.into(),
            TreeError::Session(error) => error.into(),
            TreeError::PidNamespace(_) => Self::new(ExitStatus::Unavailable, error)
                .hint("run leaktrace on the host, or give --pid to each process"),
            TreeError::Thread(_) => Self::new(ExitStatus::Failure, error),
        }
    }
}

impl From<OutputError> for CliError {
    fn from(error: OutputError) -> Self {
        let to_file = !matches!(error, OutputError::Stdout(_));
        let error = Self::new(ExitStatus::Failure, error);
        if to_file {
            error.hint("choose another file with --output, or leave it out to print the report")
        } else {
            error
        }
    }
}

impl From<SinkError> for CliError {
    fn from(error: SinkError) -> Self {
        Self::new(ExitStatus::Failure, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Addr, Pid};

    #[test]
    fn every_way_to_fail_has_its_code() {
        let code = |error: CliError| error.status().code();
        let what = String::new;
        assert_eq!(code(TargetError::NoSuchProcess { pid: Pid(7) }.into()), 4);
        assert_eq!(code(TargetError::NotPython { pid: Pid(7), exe: what() }.into()), 4);
        assert_eq!(code(TargetError::Inconsistent { what: what() }.into()), 4);
        assert_eq!(code(ReadError::Gone.into()), 5);
        assert_eq!(code(ReadError::Unmapped(Addr(0)).into()), 4);
        assert_eq!(code(ReadError::Forbidden.into()), 3);
        let error = CliError::from(TargetError::Forbidden { what: "/proc/7/mem".to_owned() });
        assert_eq!(error.status().code(), 3);
        assert!(error.to_string().contains("\nhint: run it with sudo"));
    }
}
