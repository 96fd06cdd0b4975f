//! How the program ends.

use std::process::ExitCode;

/// The exit codes, a fixed part of the command's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done.
    Done,
    /// 1: failed for a reason that none of the others names.
    Failure,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: a privilege or a feature of the kernel is missing.
    Unavailable,
    /// 4: no such process, or not one that can be traced.
    Unsuitable,
    /// 5: the target ended before there was enough to say.
    EndedEarly,
    /// 10: a leak was found, under `--fail-on-leak`.
    LeakFound,
}

impl ExitStatus {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Unsuitable => 4,
            Self::EndedEarly => 5,
            Self::LeakFound => 10,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
