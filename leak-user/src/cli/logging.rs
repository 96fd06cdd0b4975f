//! The log on standard error.

use std::env;
use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::sink::live::LogWriter;

/// Overrides `-v`, in the syntax of `tracing-subscriber`'s filters.
const VARIABLE: &str = "LEAKTRACE_LOG";

/// What is logged with so many `-v`: of the libraries no more than warnings, before the third.
const FILTERS: [&str; 4] = ["warn", "warn,leaktrace=info", "warn,leaktrace=debug", "trace"];

/// Starts the log: warnings by default, more with each `-v`. The first call of a process counts.
pub fn start(verbosity: u8) {
    let usual = FILTERS[usize::from(verbosity).min(FILTERS.len() - 1)];
    let asked = env::var(VARIABLE).ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse_lossy(asked.as_deref().unwrap_or(usual));
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
