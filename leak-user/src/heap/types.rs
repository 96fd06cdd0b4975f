//! Type objects: is a word a pointer to one?

use foldhash::HashMap;

use crate::target::layout::{Layout, ObjectLayout};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Bits of `tp_flags` (`Include/object.h`).
mod flag {
    /// Made at run time.
    pub(super) const HEAPTYPE: u64 = 1 << 9;
    /// Attributes of instances that have no dict yet lie behind them (3.13 and later).
    pub(super) const INLINE_VALUES: u64 = 1 << 2;
    /// Instances have their dict at the managed words before them (3.11 and later).
    pub(super) const MANAGED_DICT: u64 = 1 << 4;
    /// Instances have a `PyGC_Head` before them.
    pub(super) const HAVE_GC: u64 = 1 << 14;
    /// A subclass of `int`.
    pub(super) const INT_SUBCLASS: u64 = 1 << 24;
    /// A subclass of `bytes`.
    pub(super) const BYTES_SUBCLASS: u64 = 1 << 27;
    /// A subclass of `str`.
    pub(super) const STR_SUBCLASS: u64 = 1 << 28;
    /// A subclass of `list`.
    pub(super) const LIST_SUBCLASS: u64 = 1 << 25;
    /// A subclass of `dict`.
    pub(super) const DICT_SUBCLASS: u64 = 1 << 29;
    /// A subclass of `type`.
    pub(super) const TYPE_SUBCLASS: u64 = 1 << 31;
}

/// Bytes of a type object that are read: up to and with `tp_flags`, in every version.
pub const HEAD: usize = 192;

/// How long a chain of metatypes may be: a class's type is nearly always `type` itself.
const MAX_META: u32 = 4;

/// Words that are remembered; beyond that the cache starts anew.
const MAX_CACHED: usize = 1 << 18;

/// The managed words before an instance.
const MANAGED: u64 = 16;

/// What a type object says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeHead {
    /// `tp_name`.
    pub name: Addr,
    /// `tp_basicsize`, in bytes.
    pub basicsize: u64,
    /// `tp_itemsize`, in bytes.
    pub itemsize: u64,
    /// Bytes between the start of an instance's block and the instance (`_PyType_PreHeaderSize`).
    pub header: u64,
    flags: u64,
}

impl TypeHead {
    /// Made at run time: its name lacks the module, and `ht_qualname` exists.
    #[must_use]
    pub fn is_heap_type(&self) -> bool {
        self.flags & flag::HEAPTYPE != 0
    }

    /// Its instances have their dict at the managed words; means nothing before 3.11.
    #[must_use]
    pub fn has_managed_dict(&self) -> bool {
        self.flags & flag::MANAGED_DICT != 0
    }

    /// Attributes lie behind its instances; means nothing before 3.13.
    #[must_use]
    pub fn has_inline_values(&self) -> bool {
        self.flags & flag::INLINE_VALUES != 0
    }

    /// `int`, or a subclass of it.
    #[must_use]
    pub fn is_int(&self) -> bool {
        self.flags & flag::INT_SUBCLASS != 0
    }

    /// `str`, or a subclass of it.
    #[must_use]
    pub fn is_str(&self) -> bool {
        self.flags & flag::STR_SUBCLASS != 0
    }

    /// `bytes`, or a subclass of it.
    #[must_use]
    pub fn is_bytes(&self) -> bool {
        self.flags & flag::BYTES_SUBCLASS != 0
    }

    /// Are the words of its instances text or numbers, and no references?
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let plain = flag::INT_SUBCLASS | flag::BYTES_SUBCLASS | flag::STR_SUBCLASS;
        self.flags & plain != 0 && !self.is_heap_type()
    }

    /// `list`, or a subclass of it.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.flags & flag::LIST_SUBCLASS != 0
    }

    /// `dict`, or a subclass of it.
    #[must_use]
    pub fn is_dict(&self) -> bool {
        self.flags & flag::DICT_SUBCLASS != 0
    }

    /// `type`, or a subclass of it.
    #[must_use]
    pub fn is_metatype(&self) -> bool {
        self.flags & flag::TYPE_SUBCLASS != 0
    }
}

/// Which words are pointers to type objects, each found out once a look.
#[derive(Debug)]
pub struct Types {
    layout: &'static Layout,
    type_type: Addr,
    known: HashMap<Addr, Option<TypeHead>>,
}

impl Types {
    /// Where an object keeps what.
    #[must_use]
    pub fn object(&self) -> &'static ObjectLayout {
        &self.layout.object
    }

    /// The version's whole layout.
    #[must_use]
    pub fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// Reads nothing yet; `type_type` is `PyType_Type`.
    #[must_use]
    pub fn new(layout: &'static Layout, type_type: Addr) -> Self {
        Self { layout, type_type, known: HashMap::default() }
    }

    /// Forgets what was found out: types come and go. Call it at the start of each look.
    pub fn begin_look(&mut self) {
        self.known.clear();
    }

    /// Has it been found out what is there?
    #[must_use]
    pub fn is_known(&self, addr: Addr) -> bool {
        self.known.contains_key(&addr)
    }

    /// The type at an address, if there is one.
    pub fn get<M: Memory>(&mut self, memory: &M, addr: Addr) -> Option<TypeHead> {
        if !plausible(addr) {
            return None;
        }
        if let Some(known) = self.known.get(&addr) {
            return *known;
        }
        self.learn(memory, &[addr]);
        self.known.get(&addr).copied().flatten()
    }

    /// Finds out about many words at once.
    pub fn learn<M: Memory>(&mut self, memory: &M, words: &[Addr]) {
        let is_new = |addr: &Addr| plausible(*addr) && !self.known.contains_key(addr);
        let mut new: Vec<Addr> = words.iter().copied().filter(is_new).collect();
        new.sort_unstable();
        new.dedup();
        if self.known.len() + new.len() > MAX_CACHED {
            self.known.clear();
        }
        new.truncate(MAX_CACHED);
        let mut heads = vec![[0; HEAD]; new.len()];
        let mut pieces: Vec<(Addr, &mut [u8])> =
            new.iter().zip(&mut heads).map(|(addr, head)| (*addr, head.as_mut_slice())).collect();
        let read = memory.read_scattered(&mut pieces);
        for ((addr, head), read) in new.iter().zip(&heads).zip(read) {
            let parsed = if read { self.parse(head) } else { None };
            let checked = parsed
                .filter(|(metatype, _)| self.is_metatype(memory, *metatype, MAX_META))
                .map(|(_, head)| head);
            self.known.insert(*addr, checked);
        }
    }

    /// Is it `type`, or a subclass of it whose own type is one?
    fn is_metatype<M: Memory>(&self, memory: &M, addr: Addr, left: u32) -> bool {
        if addr == self.type_type {
            return true;
        }
        if let Some(Some(known)) = self.known.get(&addr) {
            return known.is_metatype();
        }
        let mut head = [0; HEAD];
        if left == 0 || !plausible(addr) || memory.read(addr, &mut head).is_err() {
            return false;
        }
        self.parse(&head).is_some_and(|(metatype, head)| {
            head.is_metatype() && self.is_metatype(memory, metatype, left - 1)
        })
    }

    /// The type's own type and what it says, if its sizes can be those of a type.
    fn parse(&self, head: &[u8; HEAD]) -> Option<(Addr, TypeHead)> {
        let word = |at: u64| {
            let bytes = head.get(usize::try_from(at).ok()?..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let types = &self.layout.types;
        let flags = word(types.flags)?;
        let has = |bits| u64::from(flags & bits != 0);
        let parsed = TypeHead {
            name: Addr(word(types.name)?),
            basicsize: word(types.basicsize)?,
            itemsize: word(types.itemsize)?,
            header: self.layout.object.gc_head * has(flag::HAVE_GC) + MANAGED * has(types.managed),
            flags,
        };
        let sizes = (self.layout.object.head..=1 << 20).contains(&parsed.basicsize)
            && parsed.itemsize <= 1 << 16;
        let named = (1 << 16..1 << 47).contains(&parsed.name.0);
        (sizes && named).then_some((Addr(word(self.layout.object.class)?), parsed))
    }
}

/// Can an object be there? Aligned, in the half of the address space that is the process's.
pub(super) fn plausible(addr: Addr) -> bool {
    addr.0.is_multiple_of(8) && (1 << 16..1 << 47).contains(&addr.0)
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
