//! The report: immutable, serialisable, versioned; the only thing that a sink sees.
//!
//! `serde_json::to_string(&Snapshot)` is the report of `--format json`; fields may be added, none may
//! go or change its meaning within schema `leaktrace.report/1`.

pub mod dump;
pub mod files;
pub mod gpu;
pub mod heap;
pub mod suspect;
pub mod why;

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
    /// Memory of GPUs; absent where the target has no library of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<gpu::Gpu>,
    /// With `--children`: the reports of the other processes. Then `verdict`, `reasons`, `unseen` and `leaks`
    /// are those of the whole tree, the rest is of `target` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Vec<ProcessReport>>,
    /// With `--children`: the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

/// The report of a process of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Its id.
    pub pid: u32,
    /// Who made it.
    pub parent: u32,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// `CLOCK_MONOTONIC` at its birth; absent where it was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_ns: Option<u64>,
    /// … and at its end, where it has ended or replaced its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ns: Option<u64>,
    /// Its own report.
    #[serde(flatten)]
    pub report: Box<Snapshot>,
}

/// A process with its children, and theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// `leak` if any process leaks.
    pub verdict: Verdict,
    /// Processes that belonged to it while it was observed: `attached` and all of `not_attached`.
    pub seen: u64,
    /// Of them, those with results of their own.
    pub attached: u64,
    /// The rest, by cause.
    pub not_attached: NotAttached,
    /// Births that were seen, of `seen`.
    pub born: u64,
    /// How often a process replaced its program.
    pub replaced: u64,
    /// How many live at the end.
    pub alive: u64,
    /// Those with a report in here, `target` first.
    pub pids: Vec<u32>,
    /// Reports of ended processes that there was no room to keep: the cleanest and oldest go first.
    pub reports_dropped: u64,
    /// What was not attached, by program; at most 20.
    pub others: Vec<OtherProgram>,
    /// Resident at the end, summed over the living that have a report: what they share is in it several times.
    pub rss_bytes: u64,
    /// The same for the proportional share.
    pub pss_bytes: u64,
    /// Growth of RSS, summed over the same.
    pub growth_bytes_per_s: f64,
    /// Its 95 % interval.
    pub growth_interval: (f64, f64),
    /// Each process with a report.
    pub members: Vec<TreeMember>,
}

/// One process of the tree, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeMember {
    /// Its id.
    pub pid: u32,
    /// Who made it; 0 for the root.
    pub parent: u32,
    /// Its own verdict.
    pub verdict: Verdict,
    /// Its accused sites.
    pub leaks: u32,
    /// Resident at its end.
    pub rss_bytes: u64,
    /// Growth of RSS.
    pub growth_bytes_per_s: f64,
    /// It has ended, or replaced its program.
    pub ended: bool,
}

/// Why processes have no results, and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAttached {
    /// Another program.
    pub not_python: u64,
    /// They ended before they were looked at.
    pub ended_first: u64,
    /// They ended (or replaced their program) before there was enough to say.
    pub too_short: u64,
    /// They waited for others: so many are observed side by side, so many are begun with a minute.
    pub no_room: u64,
    /// They came when the observation was about to end.
    pub too_late: u64,
    /// They ran in their parent's memory (`vfork`) all the time.
    pub shared_memory: u64,
    /// Python that can't be observed: version or build.
    pub unsupported: u64,
    /// The kernel refused, or something else failed.
    pub failed: u64,
    /// Their birth was seen by the kernel alone: its records found no room.
    pub unreported: u64,
}

/// Processes that were not attached and run the same program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherProgram {
    /// Its name, as the kernel keeps it: at most 15 bytes.
    pub program: String,
    /// Why they were not attached, a name of [`NotAttached`].
    pub cause: String,
    /// How many.
    pub count: u64,
    /// The latest of them.
    pub pid: u32,
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
    /// Seconds from its start to the first one's begin; null without any.
    #[serde(default)]
    pub first_burst_s: Option<f64>,
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
    /// Allowed share of the target's processor time, or of a core's where it takes less.
    pub budget: f64,
    /// Spent share of the same, by the count of hits and their measured cost.
    pub spent: f64,
    /// Spent share of the processor time that the target itself took: more than `spent` where it kept less than a
    /// core busy.
    #[serde(default)]
    pub of_own_work: f64,
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
    /// Sites that were forgotten to make room: they were not seen for long, and nothing of them lived.
    #[serde(default)]
    pub sites_forgotten: u64,
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
    /// Accused lines with the same number are parts of one leak. 1 is that of the worst line; 0: it is not accused.
    #[serde(default)]
    pub finding: u32,
    /// The process.
    #[serde(default)]
    pub pid: u32,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// `steep`, `slow`, `paused`, `saturated`, `sawtooth`, `flat`.
    pub trend: String,
    /// `pymalloc`, `malloc`, `mmap`, `cuda` (of HIP's calls, too), `torch`.
    pub domain: String,
    /// Of `cuda` and `torch`: the kind of memory, as in [`gpu::Memory::kind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Of `torch`: the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
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
    /// The place in it, from 0 on, of the innermost line of the user's own code; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_frame: Option<usize>,
    /// Who keeps it alive, from the root on; empty where not asked.
    pub retained_by: Vec<String>,
    /// One of the chain's references may be none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retained_by_maybe: bool,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What would have to be seen for it not to be accused; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_if: Option<String>,
    /// Of one that is not accused for want of evidence alone: what is wanting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    /// Since when, in seconds from the start, it would have been accused at every look on the way; absent where it
    /// would not have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accused_since_s: Option<f64>,
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

/// The place of the innermost line of the user's own Python code.
#[must_use]
pub fn own_frame(stack: &[Frame]) -> Option<usize> {
    let python = |frame: &Frame| frame.kind == FrameKind::Python;
    let files: Vec<Option<&str>> =
        stack.iter().map(|frame| python(frame).then_some(&*frame.file)).collect();
    files::own_line(&files)
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
    /// What the C library's heaps hold; absent where malloc isn't glibc's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c_heap: Option<heap::CHeap>,
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
