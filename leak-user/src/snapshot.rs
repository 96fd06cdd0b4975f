//! The report: immutable, serialisable, versioned; the only thing that a sink sees.
//!
//! `serde_json::to_string(&Snapshot)` is the report of `--format json`; fields may be added, none may
//! go or change its meaning within schema `leaktrace.report/1`.

pub mod dump;

use serde::{Deserialize, Serialize};

/// The schema's name.
pub const SCHEMA: &str = "leaktrace.report/1";

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: String,
    /// leaktrace's own version.
    pub leaktrace: String,
    /// The process.
    pub target: Target,
    /// The observation.
    pub observed: Observed,
    /// What it cost the target.
    pub overhead: Overhead,
    /// Share of allocator events seen, by allocator.
    pub coverage: Coverage,
    /// What was lost, by cause.
    pub losses: Losses,
    /// `leak`, `no-leak` or `inconclusive`.
    pub verdict: Verdict,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What was not seen, in sentences.
    pub unseen: Vec<String>,
    /// Accused sites, the worst first.
    pub leaks: Vec<Site>,
    /// The rest, by live bytes.
    pub sites: Vec<Site>,
    /// Where the memory is.
    pub memory: Memory,
    /// Where memory was first touched while observed, most first; at most 10.
    #[serde(default)]
    pub fresh_memory: Vec<FreshMemory>,
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
    /// Its working directory, as itself sees it; where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// `pymalloc`, `malloc`, …, with hooks.
    pub allocator: String,
    /// The process ended while it was observed.
    pub ended: bool,
}

/// The observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// `CLOCK_MONOTONIC` at its start.
    pub start_ns: u64,
    /// Its length.
    pub duration_s: f64,
    /// How many bursts there were.
    pub bursts: u32,
    /// Allocations recorded in them.
    pub allocations: u64,
    /// Native stacks that were copied and unwound.
    #[serde(default)]
    pub native_stacks: u64,
    /// The time that leaktrace took to unwind them, ms.
    #[serde(default)]
    pub unwinding_ms: f64,
}

/// What it cost the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// Allowed share of the target's time.
    pub budget: f64,
    /// Spent share, by the count of hits and their measured cost.
    pub spent: f64,
    /// Probe hits.
    pub hits: u64,
    /// Mean cost of one.
    pub ns_per_hit: f64,
}

/// Share of the events seen; null where it was not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// pymalloc.
    pub pymalloc: Option<f64>,
}

/// What was lost, by cause; all zero in a good run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Records that the ring buffer had no room for.
    pub ring_full: u64,
    /// Blocks or sites that a map had no room for.
    pub map_full: u64,
    /// Stacks deeper than can be held.
    pub stacks_truncated: u64,
    /// Structures of the target that were not resident when a probe read them.
    pub unreadable: u64,
    /// Allocations whose address could not be predicted.
    pub unpredicted: u64,
    /// Returns without their entry.
    pub unmatched_returns: u64,
    /// Records that made no sense.
    pub bad_records: u64,
    /// Stacks that sites refer to and that never arrived.
    pub stacks_missing: u64,
    /// Frames whose code object could not be read.
    pub unresolved_frames: u64,
    /// Breakpoints that the kernel refused in a thread, for a burst.
    pub breakpoints_refused: u64,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At least one site is accused.
    Leak,
    /// Nothing grows.
    NoLeak,
    /// Could not be told.
    Inconclusive,
}

/// One allocation site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// 1 is the worst.
    pub rank: u32,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// `steep`, `slow`, `saturated`, `sawtooth`, `flat`.
    pub trend: String,
    /// `pymalloc`, `malloc`, `mmap`.
    pub domain: String,
    /// Growth.
    pub growth_bytes_per_s: f64,
    /// Its 95 % interval.
    pub growth_interval: (f64, f64),
    /// Alive of what it allocated while observed.
    pub live_bytes: u64,
    /// See `live_bytes`.
    pub live_count: u64,
    /// Share of its old blocks still alive.
    pub survival: f64,
    /// What piles up.
    pub types: Vec<TypeShare>,
    /// The name of a thread that allocated here, where that runs no Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// From the innermost frame outwards.
    pub stack: Vec<Frame>,
    /// Who keeps it alive, from the root on; empty where not asked.
    pub retained_by: Vec<String>,
    /// Why, in sentences.
    pub reasons: Vec<String>,
}

/// Memory that the process took afresh in one place. What it gave back since is in it too: this is
/// where growth can come from, not what grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FreshMemory {
    /// `touched_bytes` over the observation's length.
    pub bytes_per_s: f64,
    /// Pages touched for the first time, estimated from a sample of the page faults.
    pub touched_bytes: u64,
    /// Bytes by which the end of the C heap (its break) was moved up.
    pub heap_growth_bytes: u64,
    /// From the innermost frame outwards; empty where no Python ran or its stack is not known.
    pub stack: Vec<Frame>,
}

/// A type and its share of a site's survivors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeShare {
    /// Qualified name.
    #[serde(rename = "type")]
    pub name: String,
    /// 0 to 1.
    pub share: f64,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Python or native.
    pub kind: FrameKind,
    /// Qualified name.
    pub function: String,
    /// File, as the target names it.
    pub file: String,
    /// Line, 0 where unknown.
    pub line: u32,
    /// Of compiled code: the file that it was loaded from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The line's text, where the file could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Python or native.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    /// A Python frame.
    Python,
    /// A frame of compiled code.
    Native,
}

/// Where the memory is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident at the end.
    pub rss_bytes: u64,
    /// Proportional share at the end.
    pub pss_bytes: u64,
    /// Growth of the proportional share; absent where it was read less than three times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pss_growth_bytes_per_s: Option<f64>,
    /// The lowest memory limit of its control groups, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Growth of RSS.
    pub growth_bytes_per_s: f64,
    /// Its 95 % interval.
    pub growth_interval: (f64, f64),
    /// The parts of RSS.
    pub split: Split,
}

/// The parts of RSS; they add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Live pymalloc blocks.
    pub python_live: u64,
    /// Whole free pools and arenas that pymalloc holds.
    pub held_free: u64,
    /// Free blocks within used pools.
    pub fragmentation: u64,
    /// File-backed pages.
    pub file: u64,
    /// The rest: the C heap, mappings, stacks.
    pub unattributed: u64,
}
