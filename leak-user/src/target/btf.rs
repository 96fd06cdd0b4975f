//! Where the running kernel keeps the fields of its structures: the type information (BTF) that it
//! publishes.
//!
//! Format: `Documentation/bpf/btf.rst`. Only structures and their members are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Several times what any kernel has.
const MAX_FILE: u64 = 64 << 20;
const MAGIC: u16 = 0xeb9f;
/// Anonymous structures within structures.
const MAX_DEPTH: usize = 8;

const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const INT: u32 = 1;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;
/// The last kind known.
const MAX_KIND: u32 = ENUM64;

/// A kernel's types.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type is in `bytes`; id 1 is the first.
    types: Vec<u32>,
}

/// One type's header.
#[derive(Debug, Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    members: usize,
    /// Offsets of members carry a bit field's size in their upper byte.
    bit_fields: bool,
}

impl Btf {
    /// Reads the types of the running kernel.
    ///
    /// # Errors
    /// Where the kernel publishes none (`CONFIG_DEBUG_INFO_BTF`), or in an unknown format.
    pub fn kernel() -> io::Result<Self> {
        Self::open(Path::new("/sys/kernel/btf/vmlinux"))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed BTF");
        Self::parse(bytes).ok_or_else(malformed)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let half = |at| u32_at(&bytes, at);
        if half(0)? as u16 != MAGIC {
            return None;
        }
        // Header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len; the offsets
        // count from its end.
        let header = half(4)? as usize;
        let section = |offset, length| {
            let start = header.checked_add(half(offset)? as usize)?;
            let end = start.checked_add(half(length)? as usize)?;
            (end <= bytes.len()).then_some((start, end))
        };
        let (mut at, end) = section(8, 12)?;
        let (strings, _) = section(16, 20)?;
        let mut types = Vec::new();
        while at < end {
            types.push(u32::try_from(at).ok()?);
            at = at.checked_add(size(type_at(&bytes, at)?))?;
        }
        Some(Self { bytes, strings, types })
    }

    /// The offset in bytes of a member of a structure, also of one within an anonymous structure or
    /// union. None where there is no such member, or it is a bit field.
    #[must_use]
    pub fn member_offset(&self, structure: &str, member: &str) -> Option<u64> {
        let mut named = self.types.iter().filter_map(|&at| {
            let found = type_at(&self.bytes, at as usize)?;
            (found.kind == STRUCT && self.string(found.name) == Some(structure.as_bytes()))
                .then_some(found)
        });
        named
            .find_map(|found| self.member(found, member.as_bytes(), 0))
            .filter(|bits| bits % 8 == 0)
            .map(|bits| bits / 8)
    }

    /// In bits.
    fn member(&self, structure: Type, wanted: &[u8], depth: usize) -> Option<u64> {
        (0..structure.members).find_map(|index| {
            // `struct btf_member`: name_off, type, offset.
            let at = structure.at + 12 + index * 12;
            let name = self.string(u32_at(&self.bytes, at)?)?;
            let offset = u32_at(&self.bytes, at + 8)?;
            let (bit_field, offset) =
                if structure.bit_fields { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
            if name == wanted {
                return (bit_field == 0).then_some(u64::from(offset));
            }
            if !name.is_empty() || depth == MAX_DEPTH {
                return None;
            }
            let id = u32_at(&self.bytes, at + 4)?.checked_sub(1)?;
            let inner = type_at(&self.bytes, *self.types.get(id as usize)? as usize)?;
            let compound = inner.kind == STRUCT || inner.kind == UNION;
            let within = compound.then(|| self.member(inner, wanted, depth + 1))??;
            Some(u64::from(offset) + within)
        })
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.bytes.get(self.strings.checked_add(offset as usize)?..)?;
        rest.get(..memchr::memchr(0, rest)?)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

/// `struct btf_type`: name_off, info (vlen 0..16, kind 24..29, kind_flag 31), size or type.
fn type_at(bytes: &[u8], at: usize) -> Option<Type> {
    let info = u32_at(bytes, at.checked_add(4)?)?;
    let kind = info >> 24 & 0x1f;
    (1..=MAX_KIND).contains(&kind).then_some(Type {
        at,
        name: u32_at(bytes, at)?,
        kind,
        members: (info & 0xffff) as usize,
        bit_fields: info >> 31 == 1,
    })
}

/// The header and what follows it.
fn size(of: Type) -> usize {
    12 + match of.kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => of.members * 12,
        ENUM | FUNC_PROTO => of.members * 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// struct outer { int a; struct { int b:4; int c; }; } with ids 1 (int), 2 (anonymous), 3 (outer).
    fn example() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0";
        let words: &[u32] = &[
            1,
            INT << 24,
            4,
            32, // int
            0,
            1 << 31 | STRUCT << 24 | 2,
            8,
            13,
            1,
            4 << 24,
            15,
            1,
            32, // anonymous: b:4 at 0, c at 32
            5,
            STRUCT << 24 | 2,
            12,
            11,
            1,
            0,
            0,
            2,
            32, // outer: a at 0, anonymous at 32
        ];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let lengths = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend(lengths.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn finds_members_also_in_anonymous_structures() {
        let btf = Btf::parse(example()).expect("well formed");
        assert_eq!(btf.member_offset("outer", "a"), Some(0));
        assert_eq!(btf.member_offset("outer", "c"), Some(8));
        assert_eq!(btf.member_offset("outer", "b"), None, "a bit field has no byte offset");
        assert_eq!(btf.member_offset("outer", "d"), None);
        assert_eq!(btf.member_offset("inner", "a"), None);
    }

    #[test]
    fn reads_the_running_kernel() {
        let btf = match Btf::kernel() {
            Ok(btf) => btf,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                println!("skipped: the kernel publishes no BTF");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        let (pid, tgid) =
            (btf.member_offset("task_struct", "pid"), btf.member_offset("task_struct", "tgid"));
        // The two are neighbours in every kernel.
        assert_eq!(tgid, pid.map(|pid| pid + 4));
        assert!(pid.is_some());
        // Within an anonymous union.
        assert_eq!(btf.member_offset("page", "flags"), Some(0));
    }

    proptest::proptest! {
        #[test]
        fn survives_damage(flips: Vec<(usize, u8)>, keep in 0_usize..256) {
            let mut bytes = example();
            let length = bytes.len();
            for (at, byte) in flips {
                bytes[at % length] = byte;
            }
            bytes.truncate(keep);
            if let Some(btf) = Btf::parse(bytes) {
                let offset = btf.member_offset("outer", "c");
                proptest::prop_assert!(offset.is_none_or(|offset| offset < 1 << 30));
            }
        }
    }
}
