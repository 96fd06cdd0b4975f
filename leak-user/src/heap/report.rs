//! `leaktrace heap`: what lies in a process's heap, read from its memory while it runs.

use std::cmp::Reverse;
use std::time::Instant;

use super::glibc_heaps;
use super::names::TypeNames;
use super::objects::{self, Objects, Tally};
use super::pymalloc::{self, Census, PymallocError};
use super::retention::{self, Case, Wanted, WhyError};
use super::surroundings::{Parts, Surroundings, check};
use crate::snapshot::heap::{
    self as snapshot, CHeap, Count, Generation, Heap, Losses, Pymalloc, SCHEMA, TypeCount,
};
use crate::snapshot::why::Why;
use crate::target::freeze::{FreezeError, Frozen};
use crate::target::memory::{Memory, ProcessMemory, ReadError};
use crate::target::{self, Python, Target, TargetError, process};
use crate::units::Pid;
use crate::watch::{split, usage};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum HeapError {
    /// Not a process whose heap can be read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its memory can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// pymalloc's state can't be read.
    #[error(transparent)]
    Pymalloc(#[from] PymallocError),
    /// Without a GIL the objects are mimalloc's.
    #[error(
        "{version} has no GIL: its objects lie in mimalloc's heaps, which can't be read yet \
         (`leaktrace --pid` traces it)"
    )]
    FreeThreaded {
        /// Its version.
        version: String,
    },
    /// Objects lie behind the debug hooks' own words.
    #[error(
        "the process runs with Python's debug hooks (PYTHONMALLOC=debug, -X dev), between whose words objects can't be \
         told yet (`leaktrace --pid` traces it)"
    )]
    DebugHooks,
    /// It can't be stopped.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// It can't be said who keeps objects alive.
    #[error(transparent)]
    Why(#[from] WhyError),
    /// The list of interpreters can't be followed.
    #[error("{0}")]
    Interpreters(&'static str),
}

/// A process whose heap is looked at.
pub struct Observed {
    pid: Pid,
    start_ticks: u64,
    /// Which program it runs.
    mark: Option<u64>,
    exe: String,
    cmdline: Vec<String>,
    memory: ProcessMemory,
    python: Python,
    /// Its malloc is glibc's.
    glibc: bool,
}

impl Observed {
    /// Finds out what there is to know of it.
    ///
    /// # Errors
    /// [`HeapError::Target`], [`HeapError::FreeThreaded`].
    pub fn open(pid: Pid) -> Result<Self, HeapError> {
        let mark = process::program_mark(pid);
        let found = target::discover(pid)?;
        let glibc = found.heap.is_some() && found.blocks_are_glibcs();
        let Target { start_ticks, exe, cmdline, memory, python, .. } = found;
        let python = python?;
        check(&python)?;
        Ok(Self { pid, start_ticks, mark, exe, cmdline, memory, python, glibc })
    }

    /// Has it ended, or run another program since? One that is only still listed has no memory.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let same = process::start_ticks(self.pid).is_ok_and(|ticks| ticks == self.start_ticks)
            && process::program_mark(self.pid) == self.mark;
        !same || usage::read(self.pid).is_err()
    }

    /// Reads the heap. Nothing is stopped, attached or written.
    ///
    /// # Errors
    /// [`HeapError`].
    pub fn look(&self) -> Result<Heap, HeapError> {
        let heap = self.or_gone(look(self))?;
        Ok(Heap { c_heap: self.c_heap(), ..heap })
    }

    /// Reads it while it stands still.
    ///
    /// # Errors
    /// [`HeapError`]; it runs on in any case.
    pub fn look_at_frozen(&self) -> Result<Heap, HeapError> {
        let frozen = Frozen::new(self.pid)?;
        let heap = look(self);
        let stood_still_s = frozen.elapsed().0 as f64 / 1e9;
        drop(frozen);
        let heap = self.or_gone(heap)?;
        Ok(Heap { stood_still_s: Some(stood_still_s), c_heap: self.c_heap(), ..heap })
    }

    /// Reads it, and finds out who keeps objects alive; stopped meanwhile if `frozen`.
    ///
    /// # Errors
    /// [`HeapError`].
    pub fn explain(
        &self,
        wanted: &Wanted,
        samples: usize,
        frozen: bool,
    ) -> Result<Heap, HeapError> {
        let stopped = if frozen { Some(Frozen::new(self.pid)?) } else { None };
        let explained = look(self).and_then(|heap| Ok((heap, self.why(wanted, samples, frozen)?)));
        let stood_still_s = stopped.map(|stopped| stopped.elapsed().0 as f64 / 1e9);
        let (heap, why) = match explained {
            Err(_) if self.has_ended() => return Err(ReadError::Gone.into()),
            other => other?,
        };
        let paths = why.groups.iter().map(|group| group.path.clone()).collect();
        Ok(Heap { stood_still_s, why: Some(why), paths, ..heap })
    }

    fn why(&self, wanted: &Wanted, samples: usize, frozen: bool) -> Result<Why, HeapError> {
        let Self { pid, memory, python, .. } = self;
        let around = Surroundings::of(*pid, memory, python)?;
        let case = Case {
            memory,
            heap: around.heap(python),
            roots: &around.roots(*pid, memory, python)?,
            code_type: python.code_type,
            until: None,
            frozen,
        };
        Ok(retention::why(&case, wanted, samples)?)
    }

    /// What the C library's heaps hold: large ones take seconds, for which no process is stopped.
    fn c_heap(&self) -> Option<CHeap> {
        let mappings = || process::mappings(self.pid).unwrap_or_default();
        self.glibc.then(|| glibc_heaps::read(&self.memory, mappings))
    }

    /// Of a process that has ended, nothing can be read, and what was read makes no sense.
    fn or_gone(&self, heap: Result<Heap, HeapError>) -> Result<Heap, HeapError> {
        heap.map_err(|error| if self.has_ended() { ReadError::Gone.into() } else { error })
    }
}

fn look(observed: &Observed) -> Result<Heap, HeapError> {
    let begun = Instant::now();
    let Observed { memory, python, .. } = observed;
    let around = Surroundings::of(observed.pid, memory, python)?;
    let mut census = Vec::new();
    for state in &around.pools {
        census.push((state.arena_size, pymalloc::census(memory, state)?));
    }
    let objects = objects::count(memory, around.heap(python))?;
    let Surroundings { interpreters, parts, lost_states, .. } = around;
    let usage = usage::read(observed.pid).map_err(|_| ReadError::Gone)?;
    let (types, unnamed_types) = named(memory, python, &objects);
    let known = parts.iter().filter(|parts| parts.collector.is_some()).count();
    let losses = Losses {
        torn_pools: objects.walked.torn,
        unreadable_pools: objects.walked.unreadable,
        implausible: census.iter().map(|(_, census)| census.implausible).sum(),
        lost_links: objects.lost_links,
        places_over: objects.places_over,
        unnamed_types,
        types_over: objects.more.count,
        allocators: lost_states + objects.states_over,
        collectors: (interpreters.len() - known) as u64,
    };
    Ok(Heap {
        schema: SCHEMA.to_owned(),
        leaktrace: env!("CARGO_PKG_VERSION").to_owned(),
        target: crate::snapshot::dump::Target {
            pid: observed.pid.0,
            python: python.version.clone(),
            exe: observed.exe.clone(),
            cmdline: observed.cmdline.clone(),
        },
        took_s: begun.elapsed().as_secs_f64(),
        types,
        raw: counted(objects.raw),
        recycled: counted(objects.recycled),
        gc: parts.iter().flat_map(generations).collect(),
        collectors: parts.iter().filter_map(collector).collect(),
        pymalloc: summed(&census),
        rss_bytes: usage.rss.0,
        split: split::split(&usage, census.iter().map(|(_, census)| census)),
        large_bytes: objects.large.0,
        c_heap: None,
        stood_still_s: None,
        growth: None,
        allocations: None,
        why: None,
        paths: Vec::new(),
        losses,
    })
}

/// The types by name, and how many of them have none.
fn named<M: Memory>(memory: &M, python: &Python, objects: &Objects) -> (Vec<TypeCount>, u64) {
    let mut names = TypeNames::new(python.layout, python.type_type);
    let mut unnamed = 0;
    let mut types: Vec<TypeCount> = objects
        .types
        .iter()
        .map(|(addr, tally)| {
            let name = names.name(memory, *addr).map(|name| name.to_string());
            unnamed += u64::from(name.is_none());
            let name = name.unwrap_or_else(|| format!("type at {addr}"));
            let Tally { count, tracked, bytes, owned } = *tally;
            TypeCount { name, count, tracked, bytes: bytes.0, owned: owned.0 }
        })
        .collect();
    types.sort_by(|a, b| (Reverse(a.size()), &a.name).cmp(&(Reverse(b.size()), &b.name)));
    (types, unnamed)
}

fn counted(tally: Tally) -> Count {
    Count { count: tally.count, bytes: tally.bytes.0 }
}

fn generations(parts: &Parts) -> Vec<Generation> {
    let Parts { id, collector } = parts;
    let all = collector.iter().flat_map(|collector| (0..).zip(collector.generations));
    let generation = |(generation, one): (u32, super::collector::Generation)| Generation {
        interpreter: *id,
        generation,
        count: one.count.into(),
        threshold: one.threshold.into(),
        collections: one.collections,
        collected: one.collected,
        uncollectable: one.uncollectable,
    };
    all.map(generation).collect()
}

fn collector(parts: &Parts) -> Option<snapshot::Collector> {
    let super::collector::Collector { enabled, collecting, frozen, garbage, .. } =
        parts.collector?;
    Some(snapshot::Collector { interpreter: parts.id, enabled, collecting, frozen, garbage })
}

fn summed(census: &[(u64, Census)]) -> Pymalloc {
    census.iter().fold(Pymalloc::default(), |sum, (arena_size, census)| Pymalloc {
        arenas: sum.arenas + census.arenas,
        arena_bytes: sum.arena_bytes + census.arenas * arena_size,
        live_blocks: sum.live_blocks + census.live_blocks(),
        live_bytes: sum.live_bytes + census.live_bytes.0,
        free_bytes: sum.free_bytes + census.free_bytes.0,
        held_free: sum.held_free + census.held_free.0,
    })
}
