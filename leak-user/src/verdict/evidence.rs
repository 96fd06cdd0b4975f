//! What a verdict is made from: plain numbers, no process behind them.

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// The allocator that owns a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Domain {
    /// CPython's small-object allocator.
    Pymalloc,
    /// The C library's heap.
    Malloc,
    /// Anonymous mappings made by neither of them.
    Mmap,
    /// Memory of a GPU, or of the host for one, by calls of its libraries.
    Cuda,
    /// Blocks that torch's allocator hands out on a GPU.
    Torch,
}

impl Domain {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pymalloc, Self::Malloc, Self::Mmap, Self::Cuda, Self::Torch];
}

/// Names a site within one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SiteId(pub u32);

/// A quantity over time, exact (counted, not sampled).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// `(seconds since the start, value)`, in order of time.
    pub points: Vec<(f64, f64)>,
}

/// Live blocks of one pymalloc size class, by the allocator's own count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassSeries {
    /// 1..=32; blocks have 16 times as many bytes.
    pub size_class: u32,
    /// Number of live blocks.
    pub live: Series,
    /// How much of the target's work bursts have seen that recorded this class, by the allocations of any class that it
    /// made meanwhile; 0: none. Its own time is no measure: a burst of probes takes a hundred times as much.
    pub seen_work: f64,
}

/// Names a line of code within one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineId(pub u64);

/// The lines that a site's stack is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// The innermost one, which allocates.
    pub allocates: Option<LineId>,
    /// The innermost one of the user's own code, which leads there.
    pub own: Option<LineId>,
}

/// One allocation site: what was seen of it, and what became of what it allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteEvidence {
    /// Which.
    pub id: SiteId,
    /// Owner of its blocks.
    pub domain: Domain,
    /// Where in the code it is.
    pub lines: Lines,
    /// Allocations that bursts saw, by size class (see `leak_common::keys::size_class`).
    pub classes: Vec<SiteClass>,
    /// How many bursts saw it allocate.
    pub bursts: u32,
    /// The blocks that outlived their burst and were followed since (a sample, bounded in number).
    pub followed: Vec<Fate>,
    /// Of those alive, the share that are objects of types whose dead Python hands out again without a call
    /// of the allocator: another line may hold them by now.
    pub recycled: f64,
    /// Blocks of it that were seen to end without being followed: some of those that are may have ended unseen.
    pub ended: u64,
}

/// A site's allocations of one size class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SiteClass {
    /// The class.
    pub size_class: u32,
    /// Allocations that bursts saw.
    pub allocations: f64,
    /// Their bytes.
    pub bytes: f64,
}

/// What became of one block that outlived its burst.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    /// Seconds since the start, when it was allocated.
    pub born_s: f64,
    /// Its size as asked for.
    pub size: Bytes,
    /// Its size class.
    pub size_class: u32,
    /// How many allocations it stands for.
    pub weight: f64,
    /// When it was last known to be alive and the same, seconds since the start.
    pub alive_until_s: f64,
    /// How it ended, if it did.
    pub end: End,
}

/// How the following of a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Alive and the same at the last look.
    Alive,
    /// Freed, or another block lies there now.
    Died,
    /// A block is there, but whether it is still the same could not be told.
    Unknown,
}

/// All that one observation yields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Length of the observation.
    pub duration_s: f64,
    /// Bursts that saw pymalloc, and the C heap.
    pub pymalloc_bursts: u32,
    /// See `pymalloc_bursts`.
    pub malloc_bursts: u32,
    /// Exact: live pymalloc blocks by class.
    pub pymalloc_classes: Vec<ClassSeries>,
    /// Exact: resident bytes of the process.
    pub rss: Series,
    /// Exact: resident anonymous bytes.
    pub anonymous: Series,
    /// Exact: bytes in pymalloc's arenas.
    pub arenas: Series,
    /// Exact: bytes of anonymous mappings that belong to neither pymalloc nor the C heap.
    pub mapped: Series,
    /// Exact: bytes that calls of a GPU's libraries handed out while observed and that are still held.
    pub device: Series,
    /// Exact: bytes that torch's allocator has handed out on GPUs.
    pub tensors: Series,
    /// The sites.
    pub sites: Vec<SiteEvidence>,
    /// When bursts left blocks of a domain alive, followed ones or not: seconds since the start.
    pub births: Vec<(Domain, f64)>,
    /// Events seen over events that happened, by the pools' own counts; None where not measured.
    pub coverage: Option<f64>,
    /// Records lost in the kernel (ring or maps full).
    pub lost: u64,
}
