//! Where the objects of a type keep references: found out once a type.
//!
//! A type adds to its base. Where it is one of the interpreter's own, `kinds` says what; else its members say where
//! objects are (`tp_members`: slots of classes, and attributes of C types), and all other words that it adds may be
//! references too.

use super::By;
use super::containers::LRU_REST;
use super::kinds::{Field, Kind, kind};
use super::offsets::{
    Attributes, Offsets, TYPE_BASE, TYPE_DICTOFFSET, TYPE_MEMBERS, TYPE_WEAKLIST,
};
use crate::heap::names::c_string;
use crate::heap::types::{TypeHead, Types};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Bases of a class that are followed.
const MAX_BASES: usize = 64;

/// Members of a type that are looked at.
const MAX_MEMBERS: u64 = 256;

/// `sizeof(PyMemberDef)`: name@0, type@8 (an i32), offset@16.
const MEMBER_BYTES: u64 = 40;

/// `T_OBJECT`, `T_OBJECT_EX` (`Include/structmember.h`, `Py_T_OBJECT_EX` of 3.12).
const OBJECT_MEMBERS: [u32; 2] = [6, 16];

/// `PyObject`: refcount, class.
const HEAD: u64 = 16;

/// Are words that look like references some?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Yes: the type is known to have no others.
    Sure,
    /// Maybe.
    Maybe,
}

impl Trust {
    /// How a word so many bytes from its start refers.
    pub(super) fn by(self, at: u64) -> By {
        match self {
            Self::Sure => By::Own(at),
            Self::Maybe => By::Word(at),
        }
    }
}

/// Where references are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// One.
    Field(Field),
    /// One, whose name is a C string there.
    Member(u64, Addr),
    /// Words: from, to.
    Words(u64, u64, Trust),
    /// Words behind the object's own size, as many as it has items.
    Items(Trust),
    /// A pointer to the `__dict__`; negative: from the end of the object.
    DictAt(i64),
    /// Attributes at the managed words.
    Managed,
    /// … and values behind the object.
    Inline,
    /// To its class.
    Class,
    /// As `kinds` says.
    Special(Kind),
}

/// Where the objects of a type keep references.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Bytes of an object, without its items.
    pub basicsize: u64,
    /// Bytes of an item.
    pub itemsize: u64,
    /// The places.
    pub parts: Vec<Part>,
}

/// A type of a class's line.
struct Link {
    addr: Addr,
    head: TypeHead,
    base: Addr,
    members: Addr,
    weaklist: i64,
    dictoffset: i64,
}

impl Plan {
    /// That of a type; None where there is none at the address.
    pub(super) fn new<M: Memory>(
        memory: &M,
        types: &mut Types,
        offsets: &Offsets,
        class: Addr,
    ) -> Option<Self> {
        let line = line(memory, types, class);
        let first = line.first()?;
        let mut parts = Vec::new();
        for (at, link) in line.iter().enumerate() {
            add(memory, offsets, link, line.get(at + 1), &mut parts);
        }
        if first.head.has_managed_dict() && offsets.attributes != Attributes::Dict {
            parts.push(Part::Managed);
            if first.head.has_inline_values() && offsets.attributes == Attributes::Inline {
                parts.push(Part::Inline);
            }
        } else if first.dictoffset != 0 {
            parts.push(Part::DictAt(first.dictoffset));
        }
        if first.head.is_heap_type() {
            parts.push(Part::Class);
        }
        let TypeHead { basicsize, itemsize, .. } = first.head;
        Some(Self { basicsize, itemsize, parts })
    }
}

/// A class and its bases, up to `object`.
fn line<M: Memory>(memory: &M, types: &mut Types, class: Addr) -> Vec<Link> {
    let mut line = Vec::new();
    let mut addr = class;
    while line.len() < MAX_BASES {
        let Some(head) = types.get(memory, addr) else { break };
        let word = |at: u64| memory.word(addr.offset(at)).unwrap_or(0);
        let link = Link {
            addr,
            head,
            base: Addr(word(TYPE_BASE)),
            members: Addr(word(TYPE_MEMBERS)),
            weaklist: word(TYPE_WEAKLIST).cast_signed(),
            dictoffset: word(TYPE_DICTOFFSET).cast_signed(),
        };
        addr = link.base;
        line.push(link);
    }
    line
}

/// What a type adds to its base.
fn add<M: Memory>(
    memory: &M,
    offsets: &Offsets,
    link: &Link,
    base: Option<&Link>,
    parts: &mut Vec<Part>,
) {
    let name = c_string(memory, link.head.name).unwrap_or_default();
    // Anybody can call a class `dict`; the name of C types that are made at run time has a module in it.
    let is_own = !link.head.is_heap_type() || name.contains('.');
    // A C type may lay out anew what its base has.
    let is_anew = |base: &Link| {
        let moved = |of: fn(&Link) -> i64| of(base) > 0 && of(base) != of(link);
        moved(|one| one.dictoffset) || moved(|one| one.weaklist)
    };
    let (mut trust, mut only_members) = (Trust::Maybe, false);
    let mut from = base.filter(|base| !is_anew(base)).map_or(HEAD, |base| base.head.basicsize);
    match is_own.then(|| kind(&name, offsets)).flatten() {
        Some(Kind::Fields(fields)) => {
            return parts.extend(fields.iter().copied().map(Part::Field));
        }
        Some(Kind::LruCache) => {
            parts.push(Part::Special(Kind::LruCache));
            from = LRU_REST;
        }
        Some(Kind::Words) => trust = Trust::Sure,
        Some(Kind::Members) => only_members = true,
        Some(kind) => return parts.push(Part::Special(kind)),
        None => {}
    }
    let mut taken: Vec<u64> = [link.weaklist, link.dictoffset]
        .into_iter()
        .filter_map(|at| u64::try_from(at).ok())
        .collect();
    for (at, kind, name) in members(memory, link) {
        taken.push(at & !7);
        let is_inside = at >= HEAD && at + 8 <= link.head.basicsize;
        if OBJECT_MEMBERS.contains(&kind) && at.is_multiple_of(8) && is_inside {
            parts.push(Part::Member(at, name));
        }
    }
    if only_members {
        return;
    }
    let mut words = from.next_multiple_of(8);
    taken.sort_unstable();
    for at in taken {
        if at >= words && at + 8 <= link.head.basicsize {
            if at > words {
                parts.push(Part::Words(words, at, trust));
            }
            words = at + 8;
        }
    }
    let end = link.head.basicsize & !7;
    if words < end {
        parts.push(Part::Words(words, end, trust));
    }
    let is_var_sized = |link: &Link| link.head.itemsize == 8;
    if is_var_sized(link) && !base.is_some_and(is_var_sized) {
        parts.push(Part::Items(trust));
    }
}

/// A type's members: where, of what kind, and where its name is.
fn members<M: Memory>(memory: &M, link: &Link) -> Vec<(u64, u32, Addr)> {
    if link.members.is_null() {
        return Vec::new();
    }
    // Those of a class are as many as the class has items; the end of a C type's is one without a name.
    let most = if link.head.is_heap_type() {
        memory.word(link.addr.offset(HEAD)).unwrap_or(0)
    } else {
        MAX_MEMBERS
    };
    let mut found = Vec::new();
    for n in 0..most.min(MAX_MEMBERS) {
        let mut member = [0; MEMBER_BYTES as usize];
        if memory.read(link.members.offset(n * MEMBER_BYTES), &mut member).is_err() {
            break;
        }
        let (words, _) = member.as_chunks::<8>();
        let [name, kind, at, ..] = words else { break };
        let (name, kind) = (u64::from_le_bytes(*name), u64::from_le_bytes(*kind) as u32);
        if name == 0 {
            break;
        }
        // In an honest object, none lies beyond a megabyte.
        if let Some(at) = Some(u64::from_le_bytes(*at)).filter(|at| *at < 1 << 20) {
            found.push((at, kind, Addr(name)));
        }
    }
    found
}
