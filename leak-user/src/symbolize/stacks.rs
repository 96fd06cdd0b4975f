//! Stacks as the kernel side numbers them, Python's and native ones, resolved when they arrive.
//!
//! A code object's address means something only while the object lives; a stack that was resolved at
//! once stays right, whatever happens to the target later.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use leak_common::{MAX_FRAMES, frame};

use super::code::CodeCache;
use super::merge::{Owners, PyStack};
use super::unwind::NativeStack;
use crate::snapshot;
use crate::target::memory::Memory;
use crate::units::Addr;

/// Frames that all stacks together may hold: some 160 MB.
const MAX_TOTAL: usize = 4 << 20;

/// Lines that are remembered by instruction.
const MAX_LINES: usize = 1 << 20;

/// One Python frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PyFrame {
    /// Qualified name; `?` where the code object could not be read.
    pub function: Arc<str>,
    /// File, as the target names it; `?` where the code object could not be read.
    pub file: Arc<str>,
    /// Line, 0 where unknown.
    pub line: u32,
}

impl PyFrame {
    /// As a report shows it, without its line's text.
    #[must_use]
    pub fn shown(&self) -> snapshot::Frame {
        snapshot::Frame {
            kind: snapshot::FrameKind::Python,
            function: self.function.to_string(),
            file: self.file.to_string(),
            line: self.line,
            module: None,
            source: None,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Frame {
    /// Of Python code.
    Python(PyFrame),
    /// Of compiled code: where its call goes on.
    Native(Addr),
}

impl Frame {
    /// The Python frame, if it is one.
    #[must_use]
    pub fn python(&self) -> Option<&PyFrame> {
        match self {
            Self::Python(frame) => Some(frame),
            Self::Native(_) => None,
        }
    }

    /// Where the call of a native frame goes on.
    #[must_use]
    pub fn native(&self) -> Option<Addr> {
        match self {
            Self::Python(_) => None,
            Self::Native(addr) => Some(*addr),
        }
    }
}

/// The Python line that a stack is on.
#[must_use]
pub fn line_of(frames: &[Frame]) -> Option<&PyFrame> {
    frames.iter().find_map(Frame::python)
}

/// A resolved stack, innermost frame first.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The frames that tell one site from another.
    pub site: Arc<[Frame]>,
    /// All frames that are known.
    pub whole: Arc<[Frame]>,
    /// The name of a thread that runs no Python.
    pub thread: Option<Arc<str>>,
    /// For each of a Python stack's frames: it called C code, not the frame before it.
    calls_c: Arc<[bool]>,
}

/// Resolved stacks by id.
#[derive(Debug)]
pub struct Stacks {
    stacks: HashMap<u64, Stack>,
    /// Those of the generation before: the kernel still refers to them until the next burst begins.
    earlier: HashMap<u64, Stack>,
    lines: HashMap<u64, PyFrame>,
    unknown: PyFrame,
    total: usize,
    max_total: usize,
    unresolved: u64,
    refused: u64,
}

impl Default for Stacks {
    fn default() -> Self {
        Self::with_room(MAX_TOTAL)
    }
}

impl Stacks {
    fn with_room(max_total: usize) -> Self {
        let unknown = PyFrame { function: "?".into(), file: "?".into(), line: 0 };
        let (stacks, lines) = (HashMap::new(), HashMap::new());
        let earlier = HashMap::new();
        Self { stacks, earlier, lines, unknown, total: 0, max_total, unresolved: 0, refused: 0 }
    }

    /// Resolves a stack that has arrived, innermost frame first; `frames` as
    /// [`leak_common::frame::pack`] packs them, cut after [`MAX_FRAMES`]. An id that is known already
    /// keeps its frames.
    pub fn insert<M: Memory>(
        &mut self,
        id: u64,
        frames: &[u64],
        codes: &mut CodeCache,
        memory: &M,
    ) {
        let frames = frames.get(..MAX_FRAMES).unwrap_or(frames);
        if self.get(id).is_some() {
            return;
        }
        if self.total + frames.len() > self.max_total {
            self.refused += 1;
            return;
        }
        let calls_c = frames.iter().map(|packed| frame::calls_c(*packed)).collect();
        let resolve = |packed: &u64| Frame::Python(self.resolve(*packed, codes, memory));
        let site: Arc<[Frame]> = frames.iter().map(resolve).collect();
        self.total += frames.len();
        self.stacks.insert(id, Stack { whole: Arc::clone(&site), site, thread: None, calls_c });
    }

    /// Takes in a native stack and the Python stack that it goes with (0: none), which must have arrived
    /// before. `whole`: all of its frames will be asked for. `thread`: its name.
    pub fn insert_native(
        &mut self,
        id: u64,
        stack: u64,
        native: &NativeStack,
        owners: &Owners,
        whole: bool,
        thread: &str,
    ) {
        if self.get(id).is_some() {
            return;
        }
        let python = self.get(stack);
        let python = python.map_or_else(PyStack::default, |stack| PyStack {
            frames: &stack.site,
            calls_c: &stack.calls_c,
        });
        let site: Arc<[Frame]> = owners.site(native, python).into();
        let whole = if whole { owners.whole(native, python).into() } else { Arc::clone(&site) };
        let frames = site.len() + whole.len();
        if self.total + frames > self.max_total {
            self.refused += 1;
            return;
        }
        self.total += frames;
        let thread = (stack == 0).then(|| thread.into());
        self.stacks.insert(id, Stack { site, whole, thread, calls_c: Arc::from([]) });
    }

    fn resolve<M: Memory>(&mut self, packed: u64, codes: &mut CodeCache, memory: &M) -> PyFrame {
        let packed = frame::alone(packed);
        if let Some(known) = self.lines.get(&packed) {
            return known.clone();
        }
        let Some(code) = codes.resolve(memory, Addr(frame::code(packed))) else {
            self.unresolved += 1;
            return self.unknown.clone();
        };
        let resolved = PyFrame {
            function: Arc::clone(&code.function),
            file: Arc::clone(&code.file),
            line: code.line(frame::byte_offset(packed)),
        };
        if self.lines.len() < MAX_LINES {
            self.lines.insert(packed, resolved.clone());
        }
        resolved
    }

    /// Call this with what [`CodeCache::revalidate`] returned, when the kernel is about to number all
    /// stacks anew: frames of stacks that arrive from now on are resolved anew. Stacks that arrived
    /// before keep theirs, and are forgotten at the next call.
    pub fn new_generation(&mut self, replaced: &[Addr]) {
        let replaced: HashSet<Addr> = replaced.iter().copied().collect();
        self.lines.retain(|packed, _| !replaced.contains(&Addr(frame::code(*packed))));
        self.earlier = std::mem::take(&mut self.stacks);
        self.total = self.earlier.values().map(|stack| stack.whole.len()).sum();
    }

    /// A stack, Python's or native.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Stack> {
        self.stacks.get(&id).or_else(|| self.earlier.get(&id))
    }

    /// How many stacks are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Is none known?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// Frames whose code object could not be read.
    #[must_use]
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    /// Stacks that there was no room for.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
#[path = "stacks_tests.rs"]
mod tests;
