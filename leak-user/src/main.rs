//! The command `leaktrace`.

use std::io::Write as _;
use std::process::ExitCode;

use leaktrace::{cli, commands};

fn main() -> ExitCode {
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
