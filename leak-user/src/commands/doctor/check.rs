//! One thing that tracing needs, and all of them together.

use serde::Serialize;

use super::Calibration;
use super::points::Point;
use super::programs::Program;
use crate::cli::ExitStatus;
use crate::units::Pid;

/// The schema of `doctor --format json`.
const SCHEMA: &str = "leaktrace.doctor/1";

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Tracing works without it, but not as well, or at another price.
    Note,
    /// Tracing does not work without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    pub(super) fn new(name: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { name, state, found: found.into(), advice: None }
    }

    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found)
    }

    pub(super) fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Note, found)
    }

    pub(super) fn missing(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Missing, found)
    }

    pub(super) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// What was learned of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Which.
    pub pid: Pid,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// At which instructions it would be probed.
    pub points: Vec<Point>,
    /// What the kernel's verifier said of the programs that may be loaded for it.
    pub programs: Vec<Program>,
    /// How the program ends for its sake.
    #[serde(skip)]
    pub(super) status: ExitStatus,
}

/// All that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    schema: &'static str,
    leaktrace: &'static str,
    /// Would tracing work?
    pub usable: bool,
    /// The machine and the privileges.
    pub machine: Vec<Check>,
    /// The process, where one was given.
    pub process: Option<Process>,
    /// What a probe costs, where it was measured.
    pub calibration: Option<Calibration>,
    /// How the program ends.
    #[serde(skip)]
    pub status: ExitStatus,
}

impl Report {
    pub(super) fn new(
        machine: Vec<Check>,
        process: Option<Process>,
        calibration: Option<Calibration>,
    ) -> Self {
        // What the machine lacks comes first: without it, little can be told of the process.
        let status = if machine.iter().any(|check| check.state == State::Missing) {
            ExitStatus::Unavailable
        } else {
            process.as_ref().map_or(ExitStatus::Done, |process| process.status)
        };
        Self {
            schema: SCHEMA,
            leaktrace: env!("CARGO_PKG_VERSION"),
            usable: status == ExitStatus::Done,
            machine,
            process,
            calibration,
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(status: ExitStatus) -> Option<Process> {
        Some(Process {
            pid: Pid(7),
            checks: Vec::new(),
            points: Vec::new(),
            programs: Vec::new(),
            status,
        })
    }

    #[test]
    fn the_exit_code_says_what_is_in_the_way() {
        let ends = |machine, process| Report::new(machine, process, None).status.code();
        assert_eq!(ends(vec![Check::ok("a", ""), Check::note("b", "")], None), 0);
        assert_eq!(ends(vec![Check::missing("a", "")], None), 3);
        assert_eq!(ends(vec![Check::ok("a", "")], process(ExitStatus::Unsuitable)), 4);
        assert_eq!(ends(vec![Check::missing("a", "")], process(ExitStatus::Unsuitable)), 3);
    }

    #[test]
    fn as_json() {
        let checks = vec![Check::missing("privileges", "CAP_BPF").advice("use sudo")];
        let report = serde_json::to_value(Report::new(checks, None, None)).unwrap();
        assert_eq!(report["schema"], SCHEMA);
        assert_eq!(report["usable"], false);
        assert_eq!(report["machine"][0]["state"], "missing");
        assert_eq!(report["machine"][0]["advice"], "use sudo");
        assert!(report.get("status").is_none());
    }
}
