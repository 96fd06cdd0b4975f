//! Code objects: which function, which file, which line.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{linetable, unicode};
use crate::target::layout::{Layout, Lines, ObjectLayout};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Longest name of a function or file, in characters; longer ones are cut.
const MAX_NAME: usize = 4096;

/// Longest location table, in bytes; a code object with a longer one is not resolved.
const MAX_TABLE: u64 = 1 << 20;

/// What the cache may hold, in code objects and in bytes; beyond that it starts anew.
const MAX_ENTRIES: usize = 1 << 16;
/// See [`MAX_ENTRIES`].
const MAX_BYTES: usize = 128 << 20;

/// A code object that changes while it is read is read again so often.
const ATTEMPTS: u32 = 3;

/// What a code object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// `co_qualname`; before 3.11 `co_name`, which lacks the class.
    pub function: Arc<str>,
    /// `co_filename`.
    pub file: Arc<str>,
    /// `co_firstlineno`, 0 where it is none.
    pub first_line: u32,
    /// `co_linetable`, before 3.10 `co_lnotab`.
    pub linetable: Box<[u8]>,
    /// Its form.
    pub lines: Lines,
    /// Tells it from a later object at the same address.
    pub fingerprint: Fingerprint,
}

impl Code {
    /// The line that a byte offset belongs to; the function's first where it is not known.
    #[must_use]
    pub fn line(&self, byte_offset: Option<u64>) -> u32 {
        byte_offset
            .and_then(|at| linetable::line(self.lines, &self.linetable, self.first_line, at))
            .unwrap_or(self.first_line)
    }

    fn bytes(&self) -> usize {
        self.linetable.len() + self.function.len() + size_of::<Self>()
    }
}

/// The words of a code object that no living one shares with another one that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    filename: Addr,
    name: Addr,
    linetable: Addr,
    first_line: u32,
}

impl Fingerprint {
    /// From a code object's first bytes; None where they are not of a code object.
    fn parse(bytes: &[u8], layout: &Layout, code_type: Addr) -> Option<Self> {
        let pointer = |at: u64| {
            let bytes = bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
            Some(Addr(u64::from_le_bytes(*bytes)))
        };
        let code = &layout.code;
        let first_line = bytes.get(usize::try_from(code.firstlineno).ok()?..)?.first_chunk()?;
        (pointer(layout.object.class)? == code_type).then_some(Self {
            filename: pointer(code.filename)?,
            name: pointer(code.name)?,
            linetable: pointer(code.linetable)?,
            first_line: u32::from_le_bytes(*first_line),
        })
    }
}

/// Code objects by address, each read once.
#[derive(Debug)]
pub struct CodeCache {
    layout: &'static Layout,
    code_type: Addr,
    codes: HashMap<Addr, Arc<Code>>,
    files: HashSet<Arc<str>>,
    bytes: usize,
}

impl CodeCache {
    /// Reads nothing yet; `code_type` is `PyCode_Type`.
    #[must_use]
    pub fn new(layout: &'static Layout, code_type: Addr) -> Self {
        let (codes, files) = (HashMap::new(), HashSet::new());
        Self { layout, code_type, codes, files, bytes: 0 }
    }

    /// The code object at an address; None where there is none, or it could not be read.
    ///
    /// Resolve soon after the address was seen: the object may be freed, and another take its place
    /// ([`Self::revalidate`] finds that out).
    pub fn resolve<M: Memory>(&mut self, memory: &M, addr: Addr) -> Option<Arc<Code>> {
        if let Some(code) = self.codes.get(&addr) {
            return Some(Arc::clone(code));
        }
        let code = Arc::new(self.read(memory, addr)?);
        if self.codes.len() >= MAX_ENTRIES || self.bytes + code.bytes() > MAX_BYTES {
            self.codes.clear();
            self.files.clear();
            self.bytes = 0;
        }
        self.bytes += code.bytes();
        self.codes.insert(addr, Arc::clone(&code));
        Some(code)
    }

    /// Reads all cached code objects' fingerprints at once; forgets those whose object was replaced
    /// or freed, and returns their addresses. Stacks resolved before keep what they were resolved to.
    pub fn revalidate<M: Memory>(&mut self, memory: &M) -> Vec<Addr> {
        let size = self.head_bytes();
        let addrs: Vec<Addr> = self.codes.keys().copied().collect();
        let mut heads = vec![0; addrs.len() * size];
        let mut pieces: Vec<(Addr, &mut [u8])> =
            addrs.iter().copied().zip(heads.chunks_exact_mut(size)).collect();
        let read = memory.read_scattered(&mut pieces);
        let mut replaced = Vec::new();
        for ((addr, head), read) in addrs.iter().zip(heads.chunks_exact(size)).zip(read) {
            let found = Fingerprint::parse(head, self.layout, self.code_type);
            let known = self.codes.get(addr).map(|code| code.fingerprint);
            if !read || found != known {
                replaced.push(*addr);
            }
        }
        for addr in &replaced {
            if let Some(code) = self.codes.remove(addr) {
                self.bytes = self.bytes.saturating_sub(code.bytes());
            }
        }
        replaced
    }

    /// How many code objects are cached.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Is none cached?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Bytes that hold a fingerprint; a code object has at least as many.
    fn head_bytes(&self) -> usize {
        let code = &self.layout.code;
        [code.firstlineno, code.filename, code.name, code.linetable].into_iter().fold(0, u64::max)
            as usize
            + 8
    }

    fn fingerprint<M: Memory>(&self, memory: &M, addr: Addr) -> Option<Fingerprint> {
        let mut head = vec![0; self.head_bytes()];
        memory.read(addr, &mut head).ok()?;
        Fingerprint::parse(&head, self.layout, self.code_type)
    }

    fn read<M: Memory>(&mut self, memory: &M, addr: Addr) -> Option<Code> {
        let mut fingerprint = self.fingerprint(memory, addr)?;
        for _ in 0..ATTEMPTS {
            let function = unicode::read(memory, self.layout, fingerprint.name, MAX_NAME);
            let file = unicode::read(memory, self.layout, fingerprint.filename, MAX_NAME);
            let linetable = read_bytes(memory, self.layout.object, fingerprint.linetable);
            let after = self.fingerprint(memory, addr)?;
            if after == fingerprint {
                let file = self.share(file?);
                let first_line = i32::try_from(fingerprint.first_line).map_or(0, i32::unsigned_abs);
                let (function, linetable) = (function?.into(), linetable?);
                let lines = self.layout.code.lines;
                return Some(Code { function, file, first_line, linetable, lines, fingerprint });
            }
            fingerprint = after;
        }
        None
    }

    /// The functions of a file share its name.
    fn share(&mut self, file: String) -> Arc<str> {
        if let Some(known) = self.files.get(file.as_str()) {
            return Arc::clone(known);
        }
        let file: Arc<str> = file.into();
        self.files.insert(Arc::clone(&file));
        file
    }
}

/// The data of a `bytes` object.
fn read_bytes<M: Memory>(memory: &M, layout: ObjectLayout, addr: Addr) -> Option<Box<[u8]>> {
    let length = memory.word(addr.offset(layout.size)).ok()?;
    if length > MAX_TABLE {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?].into_boxed_slice();
    memory.read(addr.offset(layout.bytes_data), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "code_tests.rs"]
pub(in crate::symbolize) mod tests;
