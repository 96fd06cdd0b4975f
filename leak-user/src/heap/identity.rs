//! What a block holds, and whether it is still the same.

use leak_common::hash;

use super::types::{TypeHead, Types};
use crate::target::layout::{
    KeysLayout, KeysSize, Layout, ObjectLayout, References, UnicodeLayout,
};
use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// Bytes of a block's start that tell what it is: the largest header and the object's own (48 together), and
/// what follows (24).
pub const LOOK: usize = 72;

/// Bytes of a raw block that its fingerprint covers, and of an object after its type pointer.
const RAW_PRINT: usize = 32;
/// See [`RAW_PRINT`].
const OBJECT_PRINT: usize = 24;

/// Where in a block an object can start: no header, GC head, GC head and managed words.
pub(super) const HEADERS: [u64; 3] = [0, 16, 32];

/// No object has more references than fit into memory.
const MAX_REFCOUNT: u64 = 1 << 36;

/// References of 3.14 that don't fit into 32 bits go on counting here.
const MAX_OVERFLOW: u64 = 16;

/// Reference counts from here on could also be addresses (of a program at a fixed address).
const COULD_BE_ADDRESS: u64 = 1 << 16;

/// Slots of a dict's smallest table (`PyDict_MINSIZE`), and entries that it has room for.
const LEAST_SLOTS: u64 = 8;
/// See [`LEAST_SLOTS`].
const LEAST_ROOM: u64 = 5;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Python object.
    Object {
        /// `ob_type`.
        type_addr: Addr,
        /// Bytes of the block before the object: 0, 16 or 32.
        header: u64,
    },
    /// A dict's table of the smallest size, whose keys are strings: CPython hands dead ones on, like objects of some types.
    Table,
    /// Something else: a list's body, a larger table, a buffer.
    Raw,
}

/// What was seen in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// Covers what stays the same while nobody touches the block.
    pub fingerprint: u64,
    /// An object that nothing refers to: dead, its block kept in one of CPython's free lists.
    pub parked: bool,
}

/// How two looks at a block compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The same object or bytes.
    Same,
    /// The same kind with other content: the same one at work, or another one of its kind.
    Changed,
    /// Something else, or an object that has died since.
    Other,
}

impl Identity {
    /// What a later look at the same address says of what was there.
    #[must_use]
    pub fn compare(&self, later: &Self) -> Likeness {
        if self.kind != later.kind || (later.parked && !self.parked) {
            Likeness::Other
        } else if self.fingerprint == later.fingerprint && self.parked == later.parked {
            Likeness::Same
        } else {
            Likeness::Changed
        }
    }
}

/// Tells what blocks hold.
#[derive(Debug)]
pub struct Identifier {
    /// None: what Python's objects look like is not known, and all is raw.
    types: Option<Types>,
}

impl Identifier {
    /// Reads nothing yet; `type_type` is `PyType_Type`.
    #[must_use]
    pub fn new(layout: &'static Layout, type_type: Addr) -> Self {
        Self { types: Some(Types::new(layout, type_type)) }
    }

    /// Where it is not known what objects look like.
    #[must_use]
    pub fn without_types() -> Self {
        Self { types: None }
    }

    /// Looks at many blocks of the given sizes at once; None for those that could not be read.
    pub fn look<M: Memory>(
        &mut self,
        memory: &M,
        blocks: &[(Addr, Bytes)],
    ) -> Vec<Option<Identity>> {
        if let Some(types) = &mut self.types {
            types.begin_look();
        }
        let mut bytes: Vec<Vec<u8>> = blocks
            .iter()
            .map(|(_, size)| vec![0; usize::try_from(size.0).map_or(LOOK, |size| size.min(LOOK))])
            .collect();
        let mut pieces: Vec<(Addr, &mut [u8])> = blocks
            .iter()
            .zip(&mut bytes)
            .map(|((addr, _), bytes)| (*addr, bytes.as_mut_slice()))
            .collect();
        let read = memory.read_scattered(&mut pieces);
        self.learn(memory, &bytes);
        bytes
            .iter()
            .zip(read)
            .map(|(bytes, read)| read.then(|| self.identify(memory, bytes)))
            .collect()
    }

    /// The types of objects that are about to be freed, by their blocks' first bytes; None for what is no object, which
    /// is told by the references that are left: none.
    pub fn at_their_end<M: Memory>(&mut self, memory: &M, blocks: &[Vec<u8>]) -> Vec<Option<Addr>> {
        if let Some(types) = &mut self.types {
            types.begin_look();
        }
        self.learn(memory, blocks);
        let kind = |bytes: &Vec<u8>| match self.identify(memory, bytes) {
            Identity { kind: Kind::Object { type_addr, .. }, parked: true, .. } => Some(type_addr),
            _ => None,
        };
        blocks.iter().map(kind).collect()
    }

    /// Finds out at once what all words are that could be blocks' types.
    fn learn<M: Memory>(&mut self, memory: &M, blocks: &[Vec<u8>]) {
        let Some(types) = &mut self.types else { return };
        let object = types.object();
        let of = |bytes, header| candidate(object, bytes, header);
        let words: Vec<Addr> = blocks
            .iter()
            .flat_map(|bytes| HEADERS.iter().filter_map(|header| of(bytes, *header)))
            .map(|(type_addr, _)| type_addr)
            .collect();
        types.learn(memory, &words);
    }

    /// What a block holds, by its first bytes (up to [`LOOK`]).
    pub fn identify<M: Memory>(&mut self, memory: &M, bytes: &[u8]) -> Identity {
        if let Some(object) = self.object(memory, bytes) {
            return object;
        }
        let fingerprint = print(0, [cut(bytes, RAW_PRINT), &[]]);
        let is_table =
            self.types.as_ref().is_some_and(|types| is_smallest_table(&types.layout().keys, bytes));
        let kind = if is_table { Kind::Table } else { Kind::Raw };
        Identity { kind, fingerprint, parked: false }
    }

    fn object<M: Memory>(&mut self, memory: &M, bytes: &[u8]) -> Option<Identity> {
        let types = self.types.as_mut()?;
        let layout = types.object();
        let candidates = HEADERS.iter().filter_map(|h| Some((*h, candidate(layout, bytes, *h)?)));
        for (header, (type_addr, refcount)) in candidates {
            let Some(head) = types.get(memory, type_addr) else { continue };
            if is_instance(types, memory, &head, header, refcount) {
                let kind = Kind::Object { type_addr, header };
                let object = bytes.get(usize::try_from(header).ok()?..).unwrap_or_default();
                let fingerprint = print(type_addr.0, lasting(types.layout(), &head, object));
                return Some(Identity { kind, fingerprint, parked: refcount == 0 });
            }
        }
        None
    }
}

/// Is it what `new_keys_object` makes for a small dict, and `free_keys_object` keeps (`Objects/dictobject.c`)?
fn is_smallest_table(keys: &KeysLayout, bytes: &[u8]) -> bool {
    let word = |at: u64| {
        let bytes = bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    // Nobody shares it.
    let is_own = word(0) == Some(1);
    let is_small = match keys.size {
        KeysSize::Slots => word(8) == Some(LEAST_SLOTS),
        // Both logarithms, and the form for keys that are strings.
        KeysSize::Bytes => bytes.get(8..11) == Some(&[3, 3, 1]),
    };
    is_own && is_small && word(keys.count).is_some_and(|count| count <= LEAST_ROOM)
}

/// An array of pointers to types could pass for an object whose reference count is an address.
pub(super) fn is_instance<M: Memory>(
    types: &mut Types,
    memory: &M,
    head: &TypeHead,
    header: u64,
    refcount: u64,
) -> bool {
    head.header == header
        && (refcount < COULD_BE_ADDRESS || types.get(memory, Addr(refcount)).is_none())
}

/// The words at an object's start: type pointer and reference count, if the count can be one.
pub(super) fn candidate(layout: &ObjectLayout, bytes: &[u8], header: u64) -> Option<(Addr, u64)> {
    let from = |at: u64| bytes.get(usize::try_from(header + at).ok()?..);
    let word = |at| Some(u64::from_le_bytes(*from(at)?.first_chunk()?));
    let refcount = match layout.references {
        References::One => word(0)?,
        References::Flagged => {
            let word = word(0)?;
            // Flags are few, and counts seldom go over.
            let is_count = word >> 56 == 0 && word >> 32 & 0xffff < MAX_OVERFLOW;
            u64::from(is_count.then_some(word as u32)?)
        }
        References::Split { local, shared } => {
            let own = u32::from_le_bytes(*from(local)?.first_chunk()?);
            u64::from(own).checked_add_signed(word(shared)?.cast_signed() >> 2)?
        }
    };
    (refcount < MAX_REFCOUNT).then_some((Addr(word(layout.class)?), refcount))
}

/// What of an object stays the same while nobody touches it. Of text that is its length and its characters: its hash
/// is computed, and its encoding made, when somebody asks for them, and two texts of one length have none at first.
fn lasting<'a>(layout: &Layout, head: &TypeHead, object: &'a [u8]) -> [&'a [u8]; 2] {
    let from =
        |at: u64| usize::try_from(at).ok().and_then(|at| object.get(at..)).unwrap_or_default();
    let length = cut(from(layout.object.size), 8);
    let units = length.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let first =
        |bytes, width| cut(bytes, usize::try_from(units).map_or(LOOK, |n| n.min(LOOK) * width));
    if head.is_str() {
        let UnicodeLayout { state, kind, ascii_data, compact_data } = layout.unicode;
        let state = from(state).first_chunk().map_or(0, |state| u32::from_le_bytes(*state) >> kind);
        // Where the characters lie elsewhere, the length alone is left.
        let characters = match (state & (1 << 3) != 0, state & (1 << 4) != 0) {
            (true, true) => from(ascii_data),
            (true, false) => from(compact_data),
            (false, _) => &[],
        };
        return [length, first(characters, (state & 7) as usize)];
    }
    if head.is_bytes() {
        // Between them lies the hash.
        return [length, first(from(layout.object.size + 16), 1)];
    }
    let own = usize::try_from(head.basicsize - layout.object.head).unwrap_or(0);
    let rest = cut(from(layout.object.head), if head.itemsize == 0 { own } else { OBJECT_PRINT });
    [cut(rest, OBJECT_PRINT), &[]]
}

fn cut(bytes: &[u8], max: usize) -> &[u8] {
    bytes.get(..max).unwrap_or(bytes)
}

fn print(start: u64, parts: [&[u8]; 2]) -> u64 {
    let words = parts
        .into_iter()
        .flat_map(|bytes| bytes.chunks(8))
        .map(|word| word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    hash::finish(words.fold(hash::start(start), hash::feed))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
