//! What there is to know of a heap before its objects are: interpreters, pools, the collector's lists.

use super::collector::Collector;
use super::objects::{self, Mapped};
use super::report::HeapError;
use super::retention::Roots;
use crate::target::allocators::DEBUG_HOOKS;
use crate::target::files::Files;
use crate::target::memory::{Memory, ProcessMemory};
use crate::target::{self, Python, process, threads};
use crate::units::{Addr, Pid};

/// An interpreter, and its collector where it could be read.
pub(super) struct Parts {
    pub id: i64,
    pub collector: Option<Collector>,
}

/// What there is to know of a heap before its objects are.
pub struct Surroundings {
    pub(super) interpreters: Vec<Addr>,
    pub(super) parts: Vec<Parts>,
    pub(super) pools: Vec<target::Pymalloc>,
    /// Interpreters whose pools could not be found.
    pub(super) lost_states: u64,
    lists: Vec<Addr>,
    mapped: Mapped,
}

impl Surroundings {
    /// Those of a process.
    ///
    /// # Errors
    /// [`HeapError`].
    pub fn of(pid: Pid, memory: &ProcessMemory, python: &Python) -> Result<Self, HeapError> {
        check(python)?;
        let interpreters = threads::interpreters(memory, python.layout, python.runtime)
            .map_err(HeapError::Interpreters)?;
        let parts = collectors(memory, python, &interpreters);
        let (pools, lost_states) =
            target::pymalloc::of_all(memory, python.layout, &interpreters, python.pymalloc);
        let read = parts.iter().filter_map(|parts| parts.collector.as_ref());
        let lists: Vec<Addr> = read.flat_map(|collector| collector.lists).collect();
        let mapped = Mapped::new(&process::mappings(pid)?);
        Ok(Self { interpreters, parts, pools, lost_states, lists, mapped })
    }

    /// The heap, to be gone through.
    #[must_use]
    pub fn heap(&self, python: &Python) -> objects::Heap<'_> {
        objects::Heap {
            layout: python.layout,
            type_type: python.type_type,
            pools: &self.pools,
            lists: &self.lists,
            mapped: &self.mapped,
        }
    }

    /// What lives in it for itself.
    ///
    /// # Errors
    /// [`HeapError::Target`], where the process's threads or mappings can't be read.
    pub fn roots(
        &self,
        pid: Pid,
        memory: &ProcessMemory,
        python: &Python,
    ) -> Result<Roots, HeapError> {
        let tasks = process::inner_thread_ids(pid)?.into_iter().collect();
        let files = Files::new(pid, process::mappings(pid)?);
        let Self { interpreters, mapped, .. } = self;
        Ok(Roots::find(memory, python.layout, interpreters, &tasks, &files, mapped))
    }
}

/// Can its objects be told?
///
/// # Errors
/// [`HeapError::FreeThreaded`], [`HeapError::DebugHooks`].
pub fn check(python: &Python) -> Result<(), HeapError> {
    if python.layout.free_threaded {
        return Err(HeapError::FreeThreaded { version: python.version.clone() });
    }
    if python.allocators.hooks.contains(&DEBUG_HOOKS) {
        return Err(HeapError::DebugHooks);
    }
    Ok(())
}

fn collectors<M: Memory>(memory: &M, python: &Python, interpreters: &[Addr]) -> Vec<Parts> {
    let read = |interpreter: &Addr| {
        let layout = python.layout;
        let id = threads::interpreter_id(memory, layout, *interpreter).ok()?;
        let collector = Collector::read(memory, layout, python.runtime, *interpreter);
        if let Err(error) = &collector {
            tracing::info!("interpreter {id}: {error}");
        }
        Some(Parts { id, collector: collector.ok() })
    };
    // The main one is the last of the list.
    interpreters.iter().rev().filter_map(read).collect()
}
