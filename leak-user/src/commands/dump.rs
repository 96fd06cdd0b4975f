//! `leaktrace dump --pid PID`: the stacks of all threads.

use crate::cli::output::Output;
use crate::cli::{CliError, DumpOptions, ExitStatus, Format};
use crate::dump;
use crate::sink::dump::text;
use crate::sink::json;
use crate::target::privileges;

/// Prints the stack of every thread.
///
/// # Errors
/// No such process, not one whose stacks can be read, or no place for the dump.
pub fn run(options: &DumpOptions) -> Result<ExitStatus, CliError> {
    let output = Output::open(options.output.as_deref())?;
    if options.native {
        privileges::check()?;
    }
    let dump = dump::dump(options.pid, options.native)?;
    let bytes = match options.format {
        Format::Text => text(&dump).into_bytes(),
        Format::Json => json::to_line(&dump)?,
    };
    output.write(&bytes)?;
    Ok(ExitStatus::Done)
}
