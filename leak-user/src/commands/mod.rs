//! What the program does: one file a command.

pub mod doctor;
pub mod limit;
pub mod trace;

use crate::cli::{CliError, Command, ExitStatus};
use crate::target;

/// Does what was asked.
///
/// # Errors
/// Whatever ends the command, with its exit code.
pub fn run(command: Command) -> Result<ExitStatus, CliError> {
    match command {
        Command::Trace(options) => trace::run(options),
        Command::Doctor(options) => doctor::run(&options, instruments()),
    }
}

fn instruments() -> doctor::Instruments {
    doctor::Instruments {
        discover: Some(|pid| target::discover(pid).map_err(CliError::from)),
        calibrate: None,
    }
}
