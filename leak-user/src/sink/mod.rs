//! Outputs: each makes bytes of a [`Snapshot`], and knows nothing else.

pub mod chart;
pub mod dump;
pub mod escape;
mod growth;
pub mod heap;
pub(crate) mod json;
pub mod live;
pub(crate) mod page;
mod text;
mod view;
pub mod why;

pub use json::Json;
pub use text::Text;
pub use view::{By, View};

use std::io::IsTerminal as _;

use crate::snapshot::Snapshot;

/// An output.
pub trait Sink {
    /// The whole report, ready to be written.
    ///
    /// # Errors
    /// [`SinkError`] where the form cannot hold the report.
    fn render(&self, snapshot: &Snapshot) -> Result<Vec<u8>, SinkError>;
}

/// A report could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// As JSON.
    #[error("the report cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// What text is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Columns, at least [`Terminal::NARROWEST`].
    pub width: usize,
    /// May colours be used?
    pub colour: bool,
}

impl Terminal {
    /// Text is not laid out for less.
    pub const NARROWEST: usize = 40;
    /// Nor for more: a line that long cannot be read.
    pub const WIDEST: usize = 200;
    /// Where there is no terminal: a file or a pipe.
    pub const NONE: Self = Self { width: 100, colour: false };

    /// The terminal behind standard output, or [`Terminal::NONE`].
    #[must_use]
    pub fn of_stdout() -> Self {
        Self::of(std::io::stdout())
    }

    /// The terminal behind standard error, or [`Terminal::NONE`].
    #[must_use]
    pub fn of_stderr() -> Self {
        Self::of(std::io::stderr())
    }

    fn of(stream: impl std::os::fd::AsFd) -> Self {
        if !stream.as_fd().is_terminal() {
            return Self::NONE;
        }
        let columns = terminal_size::terminal_size_of(stream)
            .map_or(Self::NONE.width, |(width, _)| usize::from(width.0));
        Self { width: columns.clamp(Self::NARROWEST, Self::WIDEST), colour: !colour_refused() }
    }
}

/// Did the user ask for no colour (`NO_COLOR`, see no-color.org), or cannot the terminal show any?
#[must_use]
pub fn colour_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}
