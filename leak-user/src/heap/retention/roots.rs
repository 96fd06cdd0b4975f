//! What lives for itself: running functions' variables, and memory of the interpreter and of compiled code.

use std::collections::HashSet;
use std::ops::ControlFlow;

use foldhash::{HashMap, HashMapExt as _};

use crate::heap::objects::Mapped;
use crate::heap::references::{By, References, Running};
use crate::target::Module;
use crate::target::files::Files;
use crate::target::frames::{current, links};
use crate::target::layout::Layout;
use crate::target::memory::Memory;
use crate::target::threads::{Thread, threads};
use crate::units::Addr;

/// Frames of a thread that are looked at.
const MAX_FRAMES: usize = 1 << 14;

/// Running functions that are looked at, and what they refer to.
const MAX_FUNCTIONS: usize = 1 << 17;
const MAX_HELD: usize = 1 << 20;

/// Bytes of an interpreter's state (3.11 and before; later it is the main one's library's) and of a thread's (up to
/// 3.15's `_PyThreadStateImpl`), at most. Where one is smaller, what follows it in the C heap is looked at too.
const INTERPRETER_BYTES: u64 = 112 << 10;
const THREAD_BYTES: u64 = 1096;

/// What an object hangs from that no object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// It lives for itself: a module or a class.
    Itself,
    /// A running function's.
    Function {
        /// The thread, as the process numbers it.
        thread: u32,
        /// Its code.
        code: Addr,
        /// How.
        by: By,
    },
    /// Something in memory of compiled code: which of [`Roots::regions`], and where in it.
    Region {
        /// Which.
        region: u32,
        /// Where in it.
        at: u64,
    },
}

impl Root {
    /// May it be none?
    pub(super) fn is_maybe(&self) -> bool {
        match self {
            Self::Itself => false,
            Self::Function { by, .. } => by.is_maybe(),
            Self::Region { .. } => true,
        }
    }
}

/// Memory of the interpreter and of compiled code where references may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// From here.
    pub start: Addr,
    /// So many bytes.
    pub bytes: u64,
    /// What it is.
    pub what: String,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    functions: Vec<(u32, Running)>,
    /// Memory of the interpreter and of compiled code.
    pub regions: Vec<Region>,
}

impl Roots {
    /// Those of a process's interpreters; `tasks` are its threads as it numbers them itself. What can't be read is left
    /// out.
    #[must_use]
    pub fn find<M: Memory>(
        memory: &M,
        layout: &Layout,
        interpreters: &[Addr],
        tasks: &HashSet<u32>,
        files: &Files,
        mapped: &Mapped,
    ) -> Self {
        let mut found = Self { functions: Vec::new(), regions: variables(files, mapped) };
        let mut seen = HashSet::new();
        for interpreter in interpreters {
            found.state(
                mapped,
                *interpreter,
                INTERPRETER_BYTES,
                "the interpreter's state".to_owned(),
            );
            for Thread { state, native, .. } in
                threads(memory, layout, *interpreter, tasks).unwrap_or_default()
            {
                found.state(mapped, state, THREAD_BYTES, format!("the state of thread {native}"));
                let Ok(innermost) =
                    current(memory, layout, state).and_then(|at| memory.pointer(at))
                else {
                    continue;
                };
                for link in links(memory, layout, innermost, MAX_FRAMES) {
                    let Ok((frame, link)) = link else { break };
                    // A chain that has led there before runs in a circle.
                    if found.functions.len() >= MAX_FUNCTIONS || !seen.insert(frame) {
                        break;
                    }
                    if let Some(of) = link.frame {
                        found.functions.push((native, Running { frame, code: of.code }));
                    }
                }
            }
        }
        found
    }

    /// Adds a state in the C heap; those among the interpreter's variables are looked at as such.
    fn state(&mut self, mapped: &Mapped, start: Addr, bytes: u64, what: String) {
        let is_variable = self
            .regions
            .iter()
            .any(|one| (one.start.0..one.start.0.saturating_add(one.bytes)).contains(&start.0));
        if !is_variable {
            let bytes = bytes.min(mapped.bytes_from(start));
            self.regions.push(Region { start, bytes, what });
        }
    }

    /// What running functions refer to.
    pub(super) fn held<M: Memory>(
        &self,
        references: &mut References<'_, M>,
    ) -> HashMap<Addr, Vec<Root>> {
        let mut held: HashMap<Addr, Vec<Root>> = HashMap::new();
        let mut left = MAX_HELD;
        for (thread, running) in &self.functions {
            references.running(*running, &mut |by, to| {
                let root = Root::Function { thread: *thread, code: running.code, by };
                let known = held.entry(to).or_default();
                if known.last() != Some(&root) {
                    known.push(root);
                    left -= 1;
                }
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if left == 0 {
                break;
            }
        }
        held
    }
}

/// Variables of compiled code: the parts of its files that may be written.
fn variables(files: &Files, mapped: &Mapped) -> Vec<Region> {
    let mut found = Vec::new();
    // One that can't be opened is left out.
    for file in files.with_code().filter_map(|mapping| files.open(mapping).ok()) {
        let Module { path, bias, segments, .. } = &file.module;
        for segment in segments.iter().filter(|segment| segment.writable) {
            let start = Addr(segment.address).offset(*bias).0.checked_next_multiple_of(8);
            let Some(start) = start.map(Addr) else { continue };
            let name = path.rsplit('/').next().unwrap_or_default();
            found.push(Region {
                start,
                bytes: segment.memory_size.min(mapped.bytes_from(start)),
                what: format!("a variable of {name}"),
            });
        }
    }
    found
}
