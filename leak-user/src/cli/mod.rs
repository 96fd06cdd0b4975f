//! The command line: what it says, in plain types, and how the program ends.

mod args;
mod classify;
pub mod error;
pub mod exit;
pub mod filter;
pub mod logging;
pub mod options;
pub mod output;
mod values;

pub use args::parse;
pub use error::CliError;
pub use exit::ExitStatus;
pub use filter::LineFilter;
pub use options::{
    Command, DoctorOptions, DumpOptions, Format, HeapFormat, HeapOptions, Invocation, Native,
    TraceOptions,
};
