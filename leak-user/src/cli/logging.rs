//! The log on standard error.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::sink::live::LogWriter;

/// Overrides `-v`, in the syntax of `tracing-subscriber`'s filters.
const VARIABLE: &str = "LEAKTRACE_LOG";

/// Starts the log: warnings by default, more with each `-v`. The first call of a process counts.
pub fn start(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_env_var(VARIABLE)
        .with_default_directive(level.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogWriter::default)
        .with_ansi(io::stderr().is_terminal() && !crate::sink::colour_refused())
        .with_target(verbosity > 1);
    // Without -v these are notes to the user, not records: no time in front of them.
    let started = if verbosity == 0 { log.without_time().try_init() } else { log.try_init() };
    if let Err(error) = started {
        tracing::debug!("the log was started before: {error}");
    }
}
