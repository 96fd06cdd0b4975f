//! The one place where a library's error gets its exit code and its hint.

use super::error::CliError;
use super::exit::ExitStatus;
use super::output::OutputError;
use crate::sink::SinkError;
use crate::target::memory::ReadError;

/// What to do where a privilege is missing.
pub(super) const PRIVILEGE_HINT: &str = "run it with sudo, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; `leaktrace doctor` says what is missing";

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Forbidden => Self::new(ExitStatus::Unavailable, error).hint(PRIVILEGE_HINT),
            ReadError::Gone => Self::new(ExitStatus::EndedEarly, error),
            ReadError::Unmapped(_) => Self::new(ExitStatus::Unsuitable, error),
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
