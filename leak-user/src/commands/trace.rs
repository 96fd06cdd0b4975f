//! `leaktrace --pid PID`.

use crate::cli::{CliError, ExitStatus, TraceOptions};

/// Observes a process and reports.
///
/// # Errors
/// Whatever ends the observation, with its exit code.
pub fn run(options: TraceOptions) -> Result<ExitStatus, CliError> {
    let reason = anyhow::anyhow!("process {} cannot be traced by this build", options.pid);
    drop(options);
    Err(CliError::new(ExitStatus::Failure, reason).hint("`leaktrace doctor` works"))
}
