//! `leaktrace doctor`: would tracing work here, and if not, what is to be done?

mod check;
mod gpu;
mod machine;
mod points;
mod process;
mod programs;
mod text;

pub use check::{Check, Report, State};

use std::path::Path;

use crate::cli::output::Output;
use crate::cli::{CliError, DoctorOptions, ExitStatus, Format};
use crate::probe::verifier::Verified;
use crate::sink::{Terminal, json};
use crate::target::Target;
use crate::units::Pid;

/// What a probe costs on this machine.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Calibration {
    /// Are probes placed and let go all at once, within milliseconds, or one by one?
    pub at_once: bool,
    /// Nanoseconds for a hit of an entry probe.
    pub ns_per_hit: f64,
    /// Nanoseconds for a return probe on top, where they are used.
    pub ns_per_return: Option<f64>,
    /// Nanoseconds for a hit of a hardware breakpoint, which watch pymalloc where it is inlined.
    pub ns_per_breakpoint: f64,
}

/// Has the kernel verify the programs as they would be loaded for a process.
pub type Verify = fn(&Target) -> Result<Vec<Verified>, CliError>;

/// The parts of the program that look closer than `/proc` allows; None where this build has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Instruments {
    /// Finds the interpreter in a process.
    pub discover: Option<fn(Pid) -> Result<Target, CliError>>,
    /// Has the kernel verify the programs as they would be loaded for a process.
    pub verify: Option<Verify>,
    /// Places probes on a throw-away process, and times them.
    pub calibrate: Option<fn() -> Result<Calibration, CliError>>,
}

/// Prints what tracing needs, and what of it is there.
///
/// Ends with [`ExitStatus::Done`] if tracing would work, [`ExitStatus::Unavailable`] if the machine
/// or the privileges lack something, [`ExitStatus::Unsuitable`] if the process cannot be traced.
///
/// # Errors
/// Where the report cannot be written.
pub fn run(options: &DoctorOptions, instruments: Instruments) -> Result<ExitStatus, CliError> {
    let report = examine(Path::new("/"), options.pid, instruments);
    let bytes = match options.format {
        Format::Text => text::render(&report, Terminal::of_stdout()).into_bytes(),
        Format::Json => json::to_line(&report)?,
    };
    Output::open(None)?.write(&bytes)?;
    Ok(report.status)
}

/// `root` is where `proc` and `sys` are.
fn examine(root: &Path, pid: Option<Pid>, instruments: Instruments) -> Report {
    let mut machine = machine::checks(root);
    machine.push(gpu::check());
    let (probes, calibration) = probes(&machine, instruments);
    machine.extend(probes);
    let lacking = lacks_something(&machine);
    let instruments =
        Instruments { verify: instruments.verify.filter(|_| !lacking), ..instruments };
    let process = pid.map(|pid| process::checks(root, pid, instruments));
    Report::new(machine, process, calibration)
}

fn lacks_something(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.state == State::Missing)
}

/// The one proof that probes work is to place some.
fn probes(machine: &[Check], instruments: Instruments) -> (Option<Check>, Option<Calibration>) {
    const NAME: &str = "probes";
    let Some(calibrate) = instruments.calibrate else { return (None, None) };
    if lacks_something(machine) {
        let check = Check::note(NAME, "not tried, since something is missing");
        return (Some(check), None);
    }
    match calibrate() {
        Ok(calibration) => {
            let returned = calibration
                .ns_per_return
                .map_or_else(String::new, |ns| format!(", {ns:.0} ns more for a return"));
            let how = if calibration.at_once { "at once" } else { "one by one, which is slow" };
            let found = format!(
                "tried on a throw-away process: {:.0} ns a hit{returned}; {:.0} ns a hardware breakpoint; \
                 placed {how}",
                calibration.ns_per_hit, calibration.ns_per_breakpoint
            );
            (Some(Check::ok(NAME, found)), Some(calibration))
        }
        Err(error) => {
            let check = Check::missing(NAME, error.message());
            (
                Some(
                    check.advice(error.way_out().unwrap_or("try it with -v to see where it fails")),
                ),
                None,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Vec<Check> {
        vec![Check::ok("kernel", "6.18")]
    }

    #[test]
    fn probes_are_tried_where_nothing_is_missing() {
        let works = Instruments {
            calibrate: Some(|| {
                Ok(Calibration {
                    at_once: true,
                    ns_per_hit: 752.4,
                    ns_per_return: Some(701.0),
                    ns_per_breakpoint: 8_550.0,
                })
            }),
            ..Instruments::default()
        };
        let (check, calibration) = probes(&sound(), works);
        assert_eq!(
            check.unwrap().found,
            "tried on a throw-away process: 752 ns a hit, 701 ns more for a return; 8550 ns a \
             hardware breakpoint; placed at once"
        );
        assert!(calibration.is_some());

        let (check, calibration) = probes(&[Check::missing("kernel", "4.4")], works);
        assert_eq!((check.unwrap().state, calibration), (State::Note, None));
    }

    #[test]
    fn probes_that_fail_are_missing() {
        let fails = Instruments {
            calibrate: Some(|| {
                Err(CliError::new(
                    ExitStatus::Unavailable,
                    anyhow::anyhow!("perf_event_open failed"),
                )
                .hint("ask the administrator"))
            }),
            ..Instruments::default()
        };
        let check = probes(&sound(), fails).0.unwrap();
        assert_eq!((check.state, check.found.as_str()), (State::Missing, "perf_event_open failed"));
        assert_eq!(check.advice.as_deref(), Some("ask the administrator"));
    }
}
