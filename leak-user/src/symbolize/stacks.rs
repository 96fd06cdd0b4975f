//! Stacks as the kernel side numbers them, Python's and native ones, resolved when they arrive.
//!
//! A code object's address means something only while the object lives; a stack that was resolved at
//! once stays right, whatever happens to the target later.

use std::collections::HashMap;
use std::sync::Arc;

use leak_common::{MAX_FRAMES, frame};

use super::code::{CodeCache, Replaced};
use super::merge::{Owners, PyStack};
use super::unwind::NativeStack;
use crate::snapshot::{self, files};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Bytes that stacks and lines may take. With half as many it is time for a new generation.
const MAX_BYTES: usize = 32 << 20;

/// What a stack takes beside its frames, a line with its entry, and a frame of a native stack.
const STACK_BYTES: usize = 64;
/// See [`STACK_BYTES`].
const LINE_BYTES: usize = 128;
/// See [`STACK_BYTES`].
const FRAME_BYTES: usize = size_of::<Frame>();

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
    /// Of Python code; those on the same line share it.
    Python(Arc<PyFrame>),
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

/// A stack without its innermost call, where that had not begun and its caller's loop runs it.
fn begun<'a, M: Memory>(frames: &'a [u64], codes: &mut CodeCache, memory: &M) -> &'a [u64] {
    let [innermost, callers @ ..] = frames else { return frames };
    let is_inline = callers.first().is_some_and(|caller| !frame::calls_c(*caller));
    let code = codes.resolve(memory, Addr(frame::code(*innermost))).filter(|_| is_inline);
    let has_begun = code.is_none_or(|code| code.has_begun(frame::byte_offset(*innermost)));
    if has_begun { frames } else { callers }
}

/// The Python line that a stack is on.
#[must_use]
pub fn line_of(frames: &[Frame]) -> Option<&PyFrame> {
    frames.iter().find_map(Frame::python)
}

/// The innermost line of the user's own Python code.
#[must_use]
pub fn own_line(frames: &[Frame]) -> Option<&PyFrame> {
    let files: Vec<Option<&str>> =
        frames.iter().map(|frame| frame.python().map(|frame| &*frame.file)).collect();
    frames.get(files::own_line(&files)?)?.python()
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
}

/// The frames of a Python stack as the kernel packed them.
type Packed = Arc<[u64]>;

/// Stacks that the kernel has numbered together.
#[derive(Debug, Default)]
struct Generation {
    python: HashMap<u64, Packed>,
    /// With the Python stacks that are within them.
    native: HashMap<u64, (Stack, Packed)>,
    /// Of all packed frames that could be resolved.
    lines: HashMap<u64, Arc<PyFrame>>,
    bytes: usize,
}

impl Generation {
    fn packed(&self, id: u64) -> Option<&Packed> {
        self.python.get(&id).or_else(|| self.native.get(&id).map(|(_, packed)| packed))
    }

    fn get(&self, id: u64, unknown: &Arc<PyFrame>) -> Option<Stack> {
        if let Some((stack, _)) = self.native.get(&id) {
            return Some(stack.clone());
        }
        let line = |packed: &u64| self.lines.get(&frame::alone(*packed)).unwrap_or(unknown);
        let frames = self.python.get(&id)?.iter().map(|packed| Arc::clone(line(packed)));
        let site: Arc<[Frame]> = frames.map(Frame::Python).collect();
        Some(Stack { whole: Arc::clone(&site), site, thread: None })
    }
}

/// Resolved stacks by id.
#[derive(Debug)]
pub struct Stacks {
    current: Generation,
    /// The one before: the kernel still refers to it until the next burst begins.
    earlier: Generation,
    unknown: Arc<PyFrame>,
    max_bytes: usize,
    unresolved: u64,
    refused: u64,
}

impl Default for Stacks {
    fn default() -> Self {
        Self::with_room(MAX_BYTES)
    }
}

impl Stacks {
    /// None yet, and room for so many bytes.
    #[must_use]
    pub fn with_room(max_bytes: usize) -> Self {
        let unknown = PyFrame { function: "?".into(), file: "?".into(), line: 0 };
        let (current, earlier) = (Generation::default(), Generation::default());
        Self { current, earlier, unknown: unknown.into(), max_bytes, unresolved: 0, refused: 0 }
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
        if self.packed(id).is_some() || !self.has_room(STACK_BYTES + size_of_val(frames)) {
            return;
        }
        for packed in frames {
            self.resolve(*packed, codes, memory);
        }
        let frames = begun(frames, codes, memory);
        self.current.python.insert(id, frames.into());
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
        if self.packed(id).is_some() {
            return;
        }
        let packed = self.packed(stack).map_or_else(|| Arc::from([]), Arc::clone);
        let calls_c: Vec<bool> = packed.iter().map(|packed| frame::calls_c(*packed)).collect();
        let python = self.get(stack);
        let frames = python.as_ref().map_or(&[][..], |stack| &stack.site);
        let python = PyStack { frames, calls_c: &calls_c };
        let site: Arc<[Frame]> = owners.site(native, python).into();
        let whole = if whole { owners.whole(native, python).into() } else { Arc::clone(&site) };
        if self.has_room(STACK_BYTES + FRAME_BYTES * (site.len() + whole.len())) {
            let thread = (stack == 0).then(|| thread.into());
            self.current.native.insert(id, (Stack { site, whole, thread }, packed));
        }
    }

    /// Books so many bytes, if there is room for them.
    fn has_room(&mut self, bytes: usize) -> bool {
        let room = self.current.bytes + self.earlier.bytes + bytes <= self.max_bytes;
        if room {
            self.current.bytes += bytes;
        } else {
            self.refused += 1;
        }
        room
    }

    fn resolve<M: Memory>(&mut self, packed: u64, codes: &mut CodeCache, memory: &M) {
        let packed = frame::alone(packed);
        if self.current.lines.contains_key(&packed) {
            return;
        }
        let Some(code) = codes.resolve(memory, Addr(frame::code(packed))) else {
            self.unresolved += 1;
            return;
        };
        let resolved = PyFrame {
            function: Arc::clone(&code.function),
            file: Arc::clone(&code.file),
            line: code.line(frame::byte_offset(packed)),
        };
        self.current.lines.insert(packed, resolved.into());
        self.current.bytes += LINE_BYTES;
    }

    /// Call this when the kernel is about to number all stacks anew, with what [`CodeCache::revalidate`] returned:
    /// frames of stacks that arrive from now on are resolved anew. Those that arrived before keep theirs until
    /// [`Self::forget_earlier`]; in whose place others may have been seen, those are forgotten at once.
    pub fn new_generation(&mut self, replaced: &Replaced) {
        let crowded = self.is_crowded();
        self.earlier = std::mem::take(&mut self.current);
        if !crowded {
            let lines = self.earlier.lines.iter();
            let stay = lines.filter(|(packed, _)| !replaced.all.contains(&code(packed)));
            self.current.lines = stay.map(|(packed, line)| (*packed, Arc::clone(line))).collect();
            self.current.bytes = LINE_BYTES * self.current.lines.len();
        }
        if !replaced.doubtful.is_empty() {
            let certain = |packed: &Packed| {
                packed.iter().all(|packed| !replaced.doubtful.contains(&code(packed)))
            };
            self.earlier.python.retain(|_, packed| certain(packed));
            self.earlier.native.retain(|_, (_, packed)| certain(packed));
        }
    }

    /// Are there stacks of the generation before?
    #[must_use]
    pub fn has_earlier(&self) -> bool {
        self.earlier.bytes > 0
    }

    /// Call this when nothing that is still to come refers to the stacks of the generation before.
    pub fn forget_earlier(&mut self) {
        self.earlier = Generation::default();
    }

    /// Is there so much that a new generation should begin, in which what is not seen any more is forgotten?
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        2 * self.current.bytes > self.max_bytes
    }

    /// A stack, Python's or native.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Stack> {
        self.current.get(id, &self.unknown).or_else(|| self.earlier.get(id, &self.unknown))
    }

    /// The code objects of a stack's Python frames.
    pub fn codes(&self, id: u64) -> impl Iterator<Item = Addr> {
        self.packed(id).into_iter().flat_map(|packed| packed.iter().map(code))
    }

    fn packed(&self, id: u64) -> Option<&Packed> {
        self.current.packed(id).or_else(|| self.earlier.packed(id))
    }

    /// How many stacks are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current.python.len() + self.current.native.len()
    }

    /// Is none known?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

fn code(packed: &u64) -> Addr {
    Addr(frame::code(*packed))
}

#[cfg(test)]
#[path = "stacks_tests.rs"]
mod tests;
