//! What the programs say in words, passed on to the log of leaktrace.

use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tracing::enabled;

use super::object::Object;

/// Target of these lines in the log.
const TARGET: &str = "leaktrace::ebpf";

/// The level up to which the programs are to speak, as they number it; 0: not at all, and the verifier
/// removes the code.
#[must_use]
pub(super) fn level() -> u8 {
    let level = if enabled!(target: TARGET, tracing::Level::TRACE) {
        Level::Trace
    } else if enabled!(target: TARGET, tracing::Level::DEBUG) {
        Level::Debug
    } else if enabled!(target: TARGET, tracing::Level::INFO) {
        Level::Info
    } else {
        return 0;
    };
    level as u8
}

/// The reading end of the programs' lines.
pub struct ProgramLog(EbpfLogger<ToTracing>);

impl ProgramLog {
    /// Takes the lines' ring out of the object; None where nobody wants to hear.
    #[must_use]
    pub fn new(object: &mut Object) -> Option<Self> {
        if level() == 0 {
            return None;
        }
        EbpfLogger::init_with_logger(&mut object.ebpf, ToTracing)
            .inspect_err(|error| tracing::warn!("the programs' log can't be read: {error}"))
            .ok()
            .map(Self)
    }

    /// Passes on what has been said since.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: TARGET, "{line}"),
            Level::Warn => tracing::warn!(target: TARGET, "{line}"),
            Level::Info => tracing::info!(target: TARGET, "{line}"),
            Level::Debug => tracing::debug!(target: TARGET, "{line}"),
            Level::Trace => tracing::trace!(target: TARGET, "{line}"),
        }
    }

    fn flush(&self) {}
}
