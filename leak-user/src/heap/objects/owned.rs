//! What an object owns beside its own block: a list's body, the table of a dict or a set, a buffer.
//!
//! Sources: `Include/cpython/listobject.h`, `dictobject.h`, `bytearrayobject.h`, `Include/cpython/setobject.h`,
//! `Objects/dictobject.c` (`USABLE_FRACTION`), `Modules/_collectionsmodule.c`; the places are the same in 3.8 to 3.14.

use crate::heap::names::{c_string, index};
use crate::heap::types::TypeHead;
use crate::target::layout::{KeysLayout, KeysSize};
use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// What is read of a `PyDictKeysObject`: all before its index, in every version.
pub const KEYS_HEAD: usize = 40;

/// No body is larger than memory.
const MOST: u64 = 1 << 40;

/// Sets of up to so many slots have them in the object.
const SMALL_SET: u64 = 8;
/// `sizeof(setentry)`: key, hash.
pub const SET_ENTRY: u64 = 16;

/// `struct BLOCK` of a deque: so many items between the links to the block before and the one after.
pub const DEQUE_ITEMS: u64 = 64;
/// Bytes of it.
pub const CHAIN_BLOCK: u64 = 8 * DEQUE_ITEMS + 16;

/// Dimensions of an array (`NPY_MAXDIMS`).
pub const MOST_DIMENSIONS: u64 = 64;

/// From this version on a bytearray's buffer is a `bytes` object.
const BYTEARRAY_OF_BYTES: (u8, u8) = (3, 15);

/// How a kind of object keeps what it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// `ob_item`@24 for `allocated`@32 items.
    List,
    /// `ma_keys`@32; `ma_values`@40, where the keys are shared.
    Dict,
    /// `mask`@32, `table`@40.
    Set,
    /// `ob_alloc`@24, `ob_bytes`@32.
    ByteArray,
    /// `ob_size`@16, `leftblock`@24, `leftindex`@40.
    Deque,
    /// numpy's: `data`@16, `nd`@24, `dimensions`@32, `base`@48; for how many elements they point to says.
    Array,
}

/// Memory that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There, so large.
    At(Addr, Bytes),
    /// There, so large; no references.
    Buffer(Addr, Bytes),
    /// So many blocks of [`CHAIN_BLOCK`] bytes, from there on, each with the next one's address at its end.
    Chain(Addr, u64),
    /// A dict's table, which says itself how large it is.
    Keys(Addr),
    /// An array's data: there, and so many numbers there say how many elements it has.
    Data(Addr, Addr, u64),
}

impl Owner {
    /// How objects of a type do; None where they own nothing, or it isn't known what.
    pub fn of<M: Memory>(memory: &M, head: &TypeHead, version: (u8, u8)) -> Option<Self> {
        if head.is_list() {
            return Some(Self::List);
        }
        if head.is_dict() {
            return Some(Self::Dict);
        }
        match c_string(memory, head.name)?.as_str() {
            "set" | "frozenset" if !head.is_heap_type() => Some(Self::Set),
            "bytearray" if !head.is_heap_type() && version < BYTEARRAY_OF_BYTES => {
                Some(Self::ByteArray)
            }
            "collections.deque" => Some(Self::Deque),
            "numpy.ndarray" => Some(Self::Array),
            _ => None,
        }
    }

    /// What an object owns, by its bytes; None where that is nothing.
    pub fn body(self, object: &[u8]) -> Option<Body> {
        let word = |at: usize| Some(u64::from_le_bytes(*object.get(at..)?.first_chunk()?));
        let at = |addr: u64, bytes: u64| {
            (addr != 0 && (1..MOST).contains(&bytes)).then_some(Body::At(Addr(addr), Bytes(bytes)))
        };
        match self {
            Self::List => at(word(24)?, word(32)?.checked_mul(8)?),
            Self::Dict if word(40)? == 0 => Some(Body::Keys(Addr(word(32)?))),
            Self::Dict => None,
            Self::Set => {
                let slots = word(32)?.checked_add(1)?;
                if slots <= SMALL_SET { None } else { at(word(40)?, slots.checked_mul(SET_ENTRY)?) }
            }
            Self::ByteArray => match at(word(32)?, word(24)?)? {
                Body::At(addr, bytes) => Some(Body::Buffer(addr, bytes)),
                other => Some(other),
            },
            // What has a base is the base's.
            Self::Array => {
                let count = u64::from(word(24)? as u32);
                let is_own = word(48)? == 0 && (1..=MOST_DIMENSIONS).contains(&count);
                is_own.then_some(Body::Data(Addr(word(16)?), Addr(word(32)?), count))
            }
            Self::Deque => {
                let end = word(40)?.min(DEQUE_ITEMS).checked_add(word(16)?)?;
                let (first, blocks) = (word(24)?, end.div_ceil(DEQUE_ITEMS).max(1));
                (first != 0 && blocks < MOST).then_some(Body::Chain(Addr(first), blocks))
            }
        }
    }
}

/// Bytes of a dict's table; None where it has none of its own (the empty one is all dicts'), or what was read is none.
pub fn table(layout: &KeysLayout, head: &[u8; KEYS_HEAD]) -> Option<Bytes> {
    let (index, with_hash) = index(layout.size, head)?;
    let slots = match layout.size {
        KeysSize::Slots => u64::from_le_bytes(*head.get(8..)?.first_chunk()?),
        KeysSize::Bytes => 1_u64.checked_shl((*head.get(8)?).into())?,
    };
    if slots <= 1 || slots > MOST {
        return None;
    }
    let entries = 2 * slots / 3 * if with_hash { 24 } else { 16 };
    Some(Bytes(layout.indices + index + entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn bodies_are_where_their_owners_say() {
        let own = |owner: Owner, words: &[u64]| owner.body(&object(words));
        let at = |addr, bytes| Some(Body::At(Addr(addr), Bytes(bytes)));
        assert_eq!(own(Owner::List, &[1, 2, 3, 0x9000, 4]), at(0x9000, 32));
        assert_eq!(own(Owner::List, &[1, 2, 0, 0, 0]), None);
        assert_eq!(own(Owner::Dict, &[1, 2, 3, 4, 0x9000, 0]), Some(Body::Keys(Addr(0x9000))));
        assert_eq!(own(Owner::Dict, &[1, 2, 3, 4, 0x9000, 0x8000]), None, "keys of its class");
        assert_eq!(own(Owner::Set, &[1, 2, 3, 3, 7, 0x9000]), None, "in the object");
        assert_eq!(own(Owner::Set, &[1, 2, 9, 9, 31, 0x9000]), at(0x9000, 512));
        let buffer = Some(Body::Buffer(Addr(0x9000), Bytes(12)));
        assert_eq!(own(Owner::ByteArray, &[1, 2, 9, 12, 0x9000]), buffer);
        let chain = Some(Body::Chain(Addr(0x9000), 3));
        assert_eq!(own(Owner::Deque, &[1, 2, 100, 0x9000, 0, 31]), chain);
    }

    #[test]
    fn nonsense_owns_nothing() {
        for owner in
            [Owner::List, Owner::Dict, Owner::Set, Owner::ByteArray, Owner::Deque, Owner::Array]
        {
            assert_eq!(owner.body(&object(&[1, 2, 3])), None, "{owner:?}");
            let all = owner.body(&object(&[u64::MAX; 8]));
            assert!(matches!(all, None | Some(Body::Keys(_))), "{owner:?}: {all:?}");
        }
    }

    #[test]
    fn a_dicts_table_says_how_large_it_is() {
        let table = |layout: KeysLayout, words: [u64; 5]| {
            table(&layout, object(&words).as_slice().first_chunk().unwrap())
        };
        let slots = KeysLayout { count: 32, indices: 40, size: KeysSize::Slots };
        assert_eq!(table(slots, [1, 8, 0, 5, 0]), Some(Bytes(40 + 8 + 5 * 24)));
        assert_eq!(table(slots, [1, 1, 0, 0, 0]), None, "the empty one");
        assert_eq!(table(slots, [1, u64::MAX, 0, 0, 0]), None);
        let bytes = KeysLayout { count: 24, indices: 32, size: KeysSize::Bytes };
        let of = |log2: u64, index: u64, kind: u64| log2 | index << 8 | kind << 16;
        assert_eq!(table(bytes, [1, of(10, 11, 1), 0, 0, 0]), Some(Bytes(32 + 2048 + 682 * 16)));
        assert_eq!(table(bytes, [1, of(3, 3, 0), 0, 0, 0]), Some(Bytes(32 + 8 + 5 * 24)));
        assert_eq!(table(bytes, [1, of(200, 3, 0), 0, 0, 0]), None);
    }
}
