//! The line that looks worst while a process is still being observed; no part of the report.

/// A line that keeps what it allocates, so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Its file, as the target names it.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// The function.
    pub function: String,
    /// How many of its followed blocks are still alive.
    pub alive: u64,
    /// How many are followed.
    pub followed: u64,
}
