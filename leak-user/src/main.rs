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
    give_freed_memory_back();
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

/// Large blocks that are freed go back to the kernel. Left to itself, glibc takes the first such block for the sign
/// that there will be more, and keeps as much at hand: the 12 MB that the kernel's types take at the start. So is what is
/// free at the heap's end.
fn give_freed_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 256 << 10;
        // SAFETY: no other thread runs yet.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}
