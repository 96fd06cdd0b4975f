//! A process's heap at one time; the only thing that the sink of `leaktrace heap` sees.
//!
//! Fields may be added, none may go or change its meaning within schema `leaktrace.heap/1`.

use serde::{Deserialize, Serialize};

use super::Split;
use super::dump::Target;
use super::why::Why;

/// The schema's name.
pub const SCHEMA: &str = "leaktrace.heap/1";

/// The heap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heap {
    /// [`SCHEMA`].
    pub schema: String,
    /// leaktrace's own version.
    pub leaktrace: String,
    /// The process.
    pub target: Target,
    /// How long it took to read, in seconds; the process ran on meanwhile, if nothing else is said.
    pub took_s: f64,
    /// How long the process stood still for it, in seconds; with `--freeze` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_still_s: Option<f64>,
    /// Objects by type, those that hold the most bytes first.
    pub types: Vec<TypeCount>,
    /// Blocks of pymalloc's that are no objects, and not known to be owned by one: shared keys, attributes of instances
    /// (3.11, 3.12), buffers.
    pub raw: Count,
    /// Dead objects that the interpreter keeps to hand out again.
    pub recycled: Count,
    /// The collector's generations, youngest first, interpreter by interpreter.
    pub gc: Vec<Generation>,
    /// The collectors, one for each interpreter.
    pub collectors: Vec<Collector>,
    /// What pymalloc holds.
    pub pymalloc: Pymalloc,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Its parts.
    pub split: Split,
    /// Bytes of objects outside of pymalloc, and of what objects own there: mostly of the C heap, some of them variables
    /// of the interpreter's.
    pub large_bytes: u64,
    /// What the C library's heaps hold; absent where malloc isn't glibc's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c_heap: Option<CHeap>,
    /// How it has changed since it was looked at first; with `--watch` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// What is allocated a second; with `--rates` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<Allocations>,
    /// Who keeps objects alive; with `--why` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// The chains of [`Why::groups`]; with `--why` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Vec<String>>,
    /// What was lost, by cause.
    pub losses: Losses,
}

/// How a heap has changed over several looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Which look this is, the first being 1.
    pub look: u64,
    /// Seconds since the first look.
    pub since_first_s: f64,
    /// Seconds since the look before; 0 at the first.
    pub since_last_s: f64,
    /// Blocks of pymalloc's in use, more than at the first look.
    #[serde(default)]
    pub blocks_since_first: i64,
    /// Types that have more objects than at the first look, or own more, those that took the most memory since first.
    pub types: Vec<TypeGrowth>,
}

/// How a type has grown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeGrowth {
    /// Its name.
    #[serde(rename = "type")]
    pub name: String,
    /// Its objects now.
    pub count: u64,
    /// How many more than at the look before.
    pub since_last: i64,
    /// … and than at the first.
    pub since_first: i64,
    /// Bytes of its objects more than at the first look.
    pub bytes_since_first: i64,
    /// Growth in bytes a second: of late, once there is a trend; before, since the first look.
    pub bytes_per_s: f64,
    /// `steep`, `slow`, `paused`, `saturated`, `sawtooth`, `flat`; None as long as it was looked at too few times.
    pub trend: Option<String>,
}

/// What is allocated a second: a mean since the first look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Allocations {
    /// Blocks that pymalloc hands out (up to 512 bytes each), objects or not; None: not known.
    pub per_s: Option<f64>,
    /// Its standard error; those of types come on top of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_per_s: Option<f64>,
    /// Why it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Blocks that were looked at when they ended, which tells types apart.
    pub samples: u64,
    /// Objects, those first of which most are allocated. One that the interpreter keeps and hands out again, as it does
    /// with some floats, tuples, lists and dicts, is no block that ended.
    pub types: Vec<TypeRate>,
    /// Blocks that are no objects: bodies of lists, tables of dicts, buffers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_per_s: Option<f64>,
}

/// How often a type is allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeRate {
    /// Its name.
    #[serde(rename = "type")]
    pub name: String,
    /// Objects a second.
    pub per_s: f64,
    /// Its part of [`Allocations::samples`]; with 100, the rate is sure to a tenth or so, with 10 to a third.
    pub samples: u64,
}

/// The objects of a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeCount {
    /// `app.Embedding`; an address where the name could not be read.
    #[serde(rename = "type")]
    pub name: String,
    /// How many.
    pub count: u64,
    /// Those of them that the collector tracks.
    pub tracked: u64,
    /// Bytes of the blocks that they lie in.
    pub bytes: u64,
    /// Bytes that they own beside: bodies of lists, tables of dicts and sets, buffers of bytearrays, deques' blocks.
    pub owned: u64,
}

impl TypeCount {
    /// All bytes of theirs.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.saturating_add(self.owned)
    }
}

/// Some blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A generation of a collector's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The interpreter, 0 the main one.
    pub interpreter: i64,
    /// 0 is the youngest.
    pub generation: u32,
    /// What has been counted towards the next collection.
    pub count: i64,
    /// What starts it; 0: never.
    pub threshold: i64,
    /// Collections so far.
    pub collections: u64,
    /// Objects freed by them.
    pub collected: u64,
    /// Objects that could not be freed.
    pub uncollectable: u64,
}

/// A collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// The interpreter, 0 the main one.
    pub interpreter: i64,
    /// Does it run by itself?
    pub enabled: bool,
    /// Was it at work?
    pub collecting: bool,
    /// Have objects been put aside? By `gc.freeze()`, or, in 3.12, those that are immortal by a collection.
    pub frozen: bool,
    /// Objects in `gc.garbage`.
    pub garbage: u64,
}

/// What pymalloc holds, over all interpreters; all zero where it isn't in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pymalloc {
    /// Arenas.
    pub arenas: u64,
    /// Bytes of them, as address space.
    pub arena_bytes: u64,
    /// Blocks in use.
    pub live_blocks: u64,
    /// Bytes of them.
    pub live_bytes: u64,
    /// Bytes of free blocks beside them in their pools.
    pub free_bytes: u64,
    /// Bytes of pools that were in use and are empty now.
    pub held_free: u64,
}

/// How glibc's malloc uses its heaps; blocks that are mappings of their own (128 KiB and more, at first) are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CHeap {
    /// Heaps: of the main arena one, of others one or more.
    pub heaps: u64,
    /// Bytes of chunks in use, and of small ones that threads keep for their next allocations.
    pub in_use_bytes: u64,
    /// Bytes of free chunks between them.
    pub free_bytes: u64,
    /// How many these are.
    pub free_chunks: u64,
    /// Bytes at the heaps' ends: never used, or free and to be given back (`malloc_trim`).
    pub top_bytes: u64,
    /// Bytes of heaps that could not be gone through.
    pub unknown_bytes: u64,
}

/// What was lost, by cause; all zero in a good run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Pools that changed each time that they were read.
    pub torn_pools: u64,
    /// Pools that were given back meanwhile.
    pub unreadable_pools: u64,
    /// Arenas and pools that made no sense.
    pub implausible: u64,
    /// Tracked objects that went while they were looked for.
    pub lost_links: u64,
    /// Places outside of pymalloc, objects or not, that there was no room to remember, or no time to go through.
    pub places_over: u64,
    /// Objects of types that there was no room for.
    pub types_over: u64,
    /// Interpreters whose blocks could not be looked at.
    pub allocators: u64,
    /// Types whose names could not be read.
    pub unnamed_types: u64,
    /// Interpreters whose collector could not be read.
    pub collectors: u64,
}
