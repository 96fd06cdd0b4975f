//! How the program ends.

use std::process::ExitCode;

use crate::snapshot::{Snapshot, Verdict};

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
    /// How the program ends after this report.
    #[must_use]
    pub fn of_report(report: &Snapshot, fail_on_leak: bool) -> Self {
        match report.verdict {
            Verdict::Leak if fail_on_leak => Self::LeakFound,
            Verdict::Inconclusive if report.target.ended => Self::EndedEarly,
            Verdict::Leak | Verdict::NoLeak | Verdict::Inconclusive => Self::Done,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reports_exit_code() {
        let example = include_str!("../sink/golden/leak.json");
        let mut report: Snapshot = serde_json::from_str(example).unwrap();
        let mut code = |verdict, ended, fail| {
            report.verdict = verdict;
            report.target.ended = ended;
            ExitStatus::of_report(&report, fail).code()
        };
        assert_eq!(code(Verdict::Leak, false, false), 0);
        assert_eq!(code(Verdict::Leak, false, true), 10);
        assert_eq!(code(Verdict::Leak, true, true), 10);
        assert_eq!(code(Verdict::NoLeak, true, true), 0);
        assert_eq!(code(Verdict::Inconclusive, true, false), 5);
        assert_eq!(code(Verdict::Inconclusive, false, true), 0);
    }
}
