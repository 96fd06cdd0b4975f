//! Code objects: which function, which file, which line.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{linetable, unicode};
use crate::target::layout::{Layout, Lines, ObjectLayout};
use crate::target::memory::{Memory, Prefetched};
use crate::units::Addr;

/// Longest name of a function or file, in characters; longer ones are cut.
const MAX_NAME: usize = 4096;

/// Longest location table, in bytes; a code object with a longer one is not resolved.
const MAX_TABLE: u64 = 1 << 20;

/// What the cache may hold, in code objects and in bytes. With more it starts anew at the next look; until then
/// it takes twice as much at most.
const MAX_ENTRIES: usize = 1 << 16;
/// See [`MAX_ENTRIES`].
const MAX_BYTES: usize = 16 << 20;

/// Code objects that nothing refers to are looked at every so many looks.
const UNREFERRED: u32 = 16;

/// Most names and location tables are shorter, in bytes.
const USUAL: usize = 512;

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

    /// Has a call begun that is at this byte offset? What is allocated until then (its cells, the generator or coroutine
    /// that it is) is its caller's doing, as tracemalloc has it.
    #[must_use]
    pub fn has_begun(&self, byte_offset: Option<u64>) -> bool {
        byte_offset.is_none_or(|at| at / 2 >= u64::from(self.fingerprint.first_traceable))
    }

    fn bytes(&self) -> usize {
        self.linetable.len() + self.function.len() + size_of::<(Self, Known)>()
    }
}

/// The words of a code object that no living one shares with another one that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    filename: Addr,
    name: Addr,
    linetable: Addr,
    first_line: u32,
    /// The code unit before which a call has not begun, 0 before 3.11.
    first_traceable: u32,
}

impl Fingerprint {
    /// From a code object's first bytes; None where they are not of a code object.
    fn parse(bytes: &[u8], layout: &Layout, code_type: Addr) -> Option<Self> {
        let pointer = |at: u64| {
            let bytes = bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
            Some(Addr(u64::from_le_bytes(*bytes)))
        };
        let half = |at: u64| {
            let bytes = bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let code = &layout.code;
        (pointer(layout.object.class)? == code_type).then_some(Self {
            filename: pointer(code.filename)?,
            name: pointer(code.name)?,
            linetable: pointer(code.linetable)?,
            first_line: half(code.firstlineno)?,
            first_traceable: code.first_traceable.map_or(Some(0), half)?,
        })
    }
}

/// A code object that has been read.
#[derive(Debug)]
struct Known {
    code: Arc<Code>,
    /// The look that was the latest when it was read.
    read: u32,
    /// The latest look that found it in its place, or `read`.
    seen: u32,
    /// It is to be looked at next time.
    referred: bool,
}

/// Code objects whose place another one has taken, or none.
#[derive(Debug, Default)]
pub struct Replaced {
    /// All of them. What is seen at their addresses from now on is of others.
    pub all: HashSet<Addr>,
    /// Of them, those that had been read before the latest look: what has been seen at their addresses since then
    /// may be theirs or their successors'.
    pub doubtful: HashSet<Addr>,
}

/// Code objects by address, each read once.
#[derive(Debug)]
pub struct CodeCache {
    layout: &'static Layout,
    code_type: Addr,
    codes: HashMap<Addr, Known>,
    files: HashSet<Arc<str>>,
    bytes: usize,
    looks: u32,
}

impl CodeCache {
    /// Reads nothing yet; `code_type` is `PyCode_Type`.
    #[must_use]
    pub fn new(layout: &'static Layout, code_type: Addr) -> Self {
        let (codes, files) = (HashMap::new(), HashSet::new());
        Self { layout, code_type, codes, files, bytes: 0, looks: 0 }
    }

    /// The code object at an address; None where there is none, it could not be read, or there is no room.
    ///
    /// Resolve soon after the address was seen: the object may be freed, and another take its place
    /// ([`Self::revalidate`] finds that out).
    pub fn resolve<M: Memory>(&mut self, memory: &M, addr: Addr) -> Option<Arc<Code>> {
        if let Some(known) = self.codes.get(&addr) {
            return Some(Arc::clone(&known.code));
        }
        if self.codes.len() >= 2 * MAX_ENTRIES || self.bytes >= 2 * MAX_BYTES {
            return None;
        }
        let code = Arc::new(self.read(memory, addr)?);
        self.bytes += code.bytes();
        let (read, seen) = (self.looks, self.looks);
        self.codes.insert(addr, Known { code: Arc::clone(&code), read, seen, referred: false });
        Some(code)
    }

    /// Something that will be relied on refers to these code objects: they are looked at next time.
    pub fn refer(&mut self, codes: impl Iterator<Item = Addr>) {
        for addr in codes {
            if let Some(known) = self.codes.get_mut(&addr) {
                known.referred = true;
            }
        }
    }

    /// Looks whether code objects are still those that were read: all that were referred to since the last look,
    /// and those that have not been looked at for long. Forgets the others. Stacks resolved before keep what they
    /// were resolved to.
    pub fn revalidate<M: Memory>(&mut self, memory: &M) -> Replaced {
        let size = self.head_bytes();
        let due = self.codes.iter().filter(|(_, known)| {
            known.referred || self.looks.wrapping_sub(known.seen) >= UNREFERRED
        });
        let addrs: Vec<Addr> = due.map(|(addr, _)| *addr).collect();
        let mut heads = vec![0; addrs.len() * size];
        let mut pieces: Vec<(Addr, &mut [u8])> =
            addrs.iter().copied().zip(heads.chunks_exact_mut(size)).collect();
        let read = memory.read_scattered(&mut pieces);
        let before = self.looks;
        self.looks = before.wrapping_add(1);
        let mut replaced = Replaced::default();
        for ((addr, head), read) in addrs.iter().zip(heads.chunks_exact(size)).zip(read) {
            let found = Fingerprint::parse(head, self.layout, self.code_type);
            let Some(known) = self.codes.get_mut(addr) else { continue };
            if read && found == Some(known.code.fingerprint) {
                known.seen = self.looks;
                known.referred = false;
                continue;
            }
            if known.read != before {
                replaced.doubtful.insert(*addr);
            }
            replaced.all.insert(*addr);
            self.bytes = self.bytes.saturating_sub(known.code.bytes());
            self.codes.remove(addr);
        }
        if self.codes.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            // None of them could be told from a successor any more.
            replaced.all.extend(self.codes.drain().map(|(addr, _)| addr));
            self.files.clear();
            self.bytes = 0;
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
        [code.firstlineno, code.filename, code.name, code.linetable]
            .into_iter()
            .chain(code.first_traceable)
            .fold(0, u64::max) as usize
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
            let Fingerprint { name, filename, linetable, .. } = fingerprint;
            let parts = [name, filename, linetable].map(|part| (part, USUAL));
            let parts = Prefetched::new(memory, &parts);
            let function = unicode::read(&parts, self.layout, name, MAX_NAME);
            let file = unicode::read(&parts, self.layout, filename, MAX_NAME);
            let linetable = read_bytes(&parts, self.layout.object, linetable);
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
