//! The stacks of all threads at one time; the only thing that the sink of `leaktrace dump` sees.
//!
//! Fields may be added, none may go or change its meaning within schema `leaktrace.dump/1`.

use serde::{Deserialize, Serialize};

use super::Frame;

/// The schema's name.
pub const SCHEMA: &str = "leaktrace.dump/1";

/// All threads of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    /// [`SCHEMA`].
    pub schema: String,
    /// leaktrace's own version.
    pub leaktrace: String,
    /// The process.
    pub target: Target,
    /// What was lost, by cause.
    pub losses: Losses,
    /// By tid, the main thread first; a thread that is in several interpreters has an entry for each, the
    /// newest interpreter's first.
    pub threads: Vec<Thread>,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// `3.11.7`.
    pub python: String,
    /// Path of the executable.
    pub exe: String,
    /// Arguments.
    pub cmdline: Vec<String>,
}

/// What was lost, by cause; all zero in a good run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Threads that ran on each time that their stack was read.
    pub stacks_changed: u64,
    /// Threads whose outermost frames there was no room for.
    pub stacks_truncated: u64,
    /// Threads whose frames lead nowhere.
    pub stacks_unreadable: u64,
    /// Frames whose code object could not be read.
    pub unresolved_frames: u64,
    /// Threads whose compiled code's frames are missing, or the outermost of them, where they were asked for.
    #[serde(default)]
    pub native_stacks_missing: u64,
}

/// One thread, in one interpreter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// The kernel's id of the thread, in the pid namespace of leaktrace.
    pub tid: u32,
    /// The kernel's name of it.
    pub name: String,
    /// Python's id of it (`threading.get_ident()`); null where no Python has run in it.
    pub ident: Option<u64>,
    /// The interpreter, 0 the main one; null where no Python has run in the thread.
    pub interpreter: Option<i64>,
    /// Did it hold its interpreter's GIL when the dump began? Null where that is not known.
    pub holds_gil: Option<bool>,
    /// From the innermost frame outwards.
    pub stack: Vec<Frame>,
    /// Why frames are missing, in a sentence; absent where none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Why compiled code's frames are missing, in a sentence; absent where none are, or they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_problem: Option<String>,
}
