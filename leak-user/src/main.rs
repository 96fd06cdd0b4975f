//! The command `leaktrace`.

use std::io::Write as _;
use std::process::ExitCode;

use leaktrace::{cli, commands, probe::calibrate};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == calibrate::ARGUMENT) {
        return calibrate::calibration_loop().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
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
