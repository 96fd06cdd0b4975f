//! Which table of sites a report for people is asked for.

/// What the rows of a table stand for, as tracemalloc's statistics have it and beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// Lines of code.
    #[default]
    Line,
    /// Functions.
    Function,
    /// Files.
    File,
    /// Installed packages, the standard library, own code.
    Package,
    /// Types of what is alive.
    Type,
    /// Stacks.
    Traceback,
}

impl By {
    /// As a table's head has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Function => "function",
            Self::File => "file",
            Self::Package => "package",
            Self::Type => "type",
            Self::Traceback => "calls, innermost first",
        }
    }

    /// One that is not shown.
    pub(super) fn more(self) -> &'static str {
        match self {
            Self::Line => "more line",
            Self::Function => "more function",
            Self::File => "more file",
            Self::Package => "more package",
            Self::Type => "more type",
            Self::Traceback => "more stack",
        }
    }
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// What its rows stand for.
    pub by: By,
    /// Sites count for all that their stacks go through.
    pub cumulative: bool,
    /// Rows at most.
    pub top: usize,
}

impl View {
    /// Rows where nobody says how many.
    pub const TOP: usize = 10;

    /// Over the table.
    pub(super) fn title(self) -> String {
        let by = if self.by == By::Traceback { "stack" } else { self.by.name() };
        let cumulative = if self.cumulative { ", with all that it calls" } else { "" };
        format!("What is held, by {by}{cumulative}")
    }
}

impl Default for View {
    fn default() -> Self {
        Self { by: By::Line, cumulative: false, top: Self::TOP }
    }
}
