//! The command `leaktrace`.

use std::io::Write as _;
use std::process::ExitCode;

use leaktrace::{cli, commands, probe::calibrate, probe::keeper};

fn main() -> ExitCode {
    // leaktrace as one of its own helpers.
    let argument = std::env::args_os().nth(1);
    let helper: Option<fn() -> std::io::Result<()>> =
        match argument.as_ref().and_then(|a| a.to_str()) {
            Some(calibrate::ARGUMENT) => Some(calibrate::calibration_loop),
            Some(keeper::ARGUMENT) => Some(keeper::keep),
            _ => None,
        };
    if let Some(helper) = helper {
        return helper().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let invocation = cli::parse();
    cli::logging::start(invocation.verbosity);
    match commands::run(invocation.command) {
        Ok(status) => status.into(),
        Err(error) => {
            // Where standard error is closed, the exit code is all that can be said.
            let _ = writeln!(std::io::stderr(), "{error}");
            error.status().into()
        }
    }
}
