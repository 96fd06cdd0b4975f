//! A thread's chain of frames, as the interpreter keeps it.

use super::layout::{self, Entry, FrameLayout, Instr, Layout};
use super::memory::{Memory, ReadError};
use crate::units::Addr;

/// Bytes that hold all of a frame that is read, in every version.
pub const MAX_FRAME_BYTES: usize = 128;

/// One link of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The frame of Python's; None for a boundary between C and Python.
    pub frame: Option<Frame>,
    /// The link that it was called from; NULL at the end.
    pub previous: Addr,
    /// May it be the last one?
    pub outermost: bool,
}

/// A frame of Python's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its code object; may be anything in a frame that was read while it changed.
    pub code: Addr,
    /// Where in its bytecode it is.
    pub place: Place,
}

/// The copy of the bytecode that the frame runs was not there when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyGone;

/// Where in its bytecode a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the first instruction.
    NotBegun,
    /// So many bytes behind its begin.
    At(u64),
    /// Here, in the copy of this number.
    InCopy(Addr, u64),
}

impl Frame {
    /// How far into the bytecode it is, in bytes; None before the first instruction.
    ///
    /// # Errors
    /// [`CopyGone`].
    pub fn byte_offset(
        &self,
        memory: &impl Memory,
        layout: &FrameLayout,
    ) -> Result<Option<u64>, CopyGone> {
        match self.place {
            Place::NotBegun => Ok(None),
            Place::At(offset) => Ok(Some(offset)),
            Place::InCopy(instr, copy) => {
                self.in_copy(memory, layout, instr, copy).map(Some).ok_or(CopyGone)
            }
        }
    }

    fn in_copy(
        &self,
        memory: &impl Memory,
        layout: &FrameLayout,
        instr: Addr,
        copy: u64,
    ) -> Option<u64> {
        let array = memory.pointer(self.code.offset(layout.copies?.array)).ok()?;
        let count = memory.word(array).ok()?;
        if copy >= count {
            return None;
        }
        let begin = memory.pointer(array.offset(8).offset(copy.checked_mul(8)?)).ok()?;
        instr.0.checked_sub(begin.0)
    }
}

impl Link {
    /// From the frame's first [`FrameLayout::bytes`] bytes; None where they are fewer.
    #[must_use]
    pub fn parse(layout: &FrameLayout, bytes: &[u8]) -> Option<Self> {
        let from = |at: u64| bytes.get(usize::try_from(at).ok()?..);
        let word = |at| Some(u64::from_le_bytes(*from(at)?.first_chunk()?));
        let previous = Addr(word(layout.previous)?);
        let owner = layout.owner.map_or(Some(0), |at| from(at)?.first().copied())?;
        // From 3.14 on, the low bits of the pointer are a tag.
        let code = Addr(word(layout.code)? & !7);
        let boundary = owner >= layout::OWNER_BOUNDARY || code.is_null();
        let outermost = match layout.entry {
            Entry::Every { state, executing } => *from(state)?.first()? == executing,
            Entry::Flag(at) => *from(at)?.first()? == 1,
            Entry::Boundary => boundary,
        };
        if boundary {
            return Some(Self { frame: None, previous, outermost });
        }
        let half = |at| Some(i32::from_le_bytes(*from(at)?.first_chunk()?));
        let copy = layout.copies.map_or(Some(0), |copies| half(copies.index))?;
        let place = match (layout.instr, u64::try_from(copy)) {
            (Instr::Pointer { at, .. }, Ok(copy @ 1..)) => Place::InCopy(Addr(word(at)?), copy),
            (Instr::Pointer { at, code_start }, _) => {
                let offset = word(at)?.wrapping_sub(code.offset(code_start).0);
                // Before the first instruction it points at what precedes it.
                if offset <= i64::MAX as u64 { Place::At(offset) } else { Place::NotBegun }
            }
            (Instr::Index { at, bytes }, _) => {
                u64::try_from(half(at)?).map_or(Place::NotBegun, |index| Place::At(index * bytes))
            }
        };
        Some(Self { frame: Some(Frame { code, place }), previous, outermost })
    }
}

impl FrameLayout {
    /// The frame's first bytes that hold all that is read of it; at most [`MAX_FRAME_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        let instr = match self.instr {
            Instr::Pointer { at, .. } => at + 8,
            Instr::Index { at, .. } => at + 4,
        };
        let owner = self.owner.map_or(0, |at| at + 1);
        let entry = match self.entry {
            Entry::Every { state: at, .. } | Entry::Flag(at) => at + 1,
            Entry::Boundary => 0,
        };
        let copy = self.copies.map_or(0, |copies| copies.index + 4);
        let ends = [self.code + 8, self.previous + 8, instr, owner, entry, copy];
        let end = ends.into_iter().fold(0, u64::max);
        usize::try_from(end).unwrap_or(MAX_FRAME_BYTES).min(MAX_FRAME_BYTES)
    }
}

/// Where the variable is that points to a thread's innermost frame: in its state, or in what its state
/// points to.
///
/// # Errors
/// [`ReadError`].
pub fn current(memory: &impl Memory, layout: &Layout, state: Addr) -> Result<Addr, ReadError> {
    let holder = match layout.thread.cframe {
        Some(cframe) => memory.pointer(state.offset(cframe))?,
        None => state,
    };
    Ok(holder.offset(layout.thread.current_frame))
}

/// The links of a thread's chain as it is read, innermost first, each with its address; at most `limit`.
/// Nothing keeps a running thread from changing it meanwhile.
pub fn links<'a, M: Memory>(
    memory: &'a M,
    layout: &'a Layout,
    innermost: Addr,
    limit: usize,
) -> impl Iterator<Item = Result<(Addr, Link), ReadError>> + 'a {
    let mut next = innermost;
    let mut left = limit;
    std::iter::from_fn(move || {
        if next.is_null() || left == 0 {
            return None;
        }
        left -= 1;
        let at = next;
        let mut bytes = [0; MAX_FRAME_BYTES];
        let bytes = bytes.get_mut(..layout.frame.bytes())?;
        let link = match memory.read(at, bytes) {
            Ok(()) => Link::parse(&layout.frame, bytes)?,
            Err(error) => {
                left = 0;
                return Some(Err(error));
            }
        };
        next = link.previous;
        Some(Ok((at, link)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::FakeMemory;
    use proptest::prelude::*;

    fn layouts() -> impl Iterator<Item = &'static Layout> {
        layout::all()
    }

    /// A frame whose words say what is asked.
    fn frame(layout: &FrameLayout, code: u64, previous: u64, owner: u8) -> Vec<u8> {
        let mut bytes = vec![0; layout.bytes()];
        let mut put = |at: u64, value: &[u8]| {
            bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
        };
        put(layout.code, &code.to_le_bytes());
        put(layout.previous, &previous.to_le_bytes());
        if let Some(at) = layout.owner {
            put(at, &[owner]);
        }
        if let Entry::Every { state, executing } = layout.entry {
            put(state, &[executing]);
        }
        match layout.instr {
            Instr::Pointer { at, code_start } => {
                put(at, &((code & !7) + code_start + 12).to_le_bytes());
            }
            Instr::Index { at, bytes } => put(at, &(12 / bytes as i32).to_le_bytes()),
        }
        bytes
    }

    #[test]
    fn every_version_says_code_place_and_caller() {
        for layout in layouts() {
            let tag = u64::from(layout.version >= (3, 14));
            let bytes = frame(&layout.frame, 0x7000 | tag, 0x9000, 0);
            let expected = Frame { code: Addr(0x7000), place: Place::At(12) };
            let link = Link::parse(&layout.frame, &bytes).unwrap();
            assert_eq!((link.frame, link.previous), (Some(expected), Addr(0x9000)));
            assert_eq!(link.outermost, layout.version <= (3, 10));
            assert_eq!(Link::parse(&layout.frame, &bytes[..bytes.len() - 1]), None);
            let nothing = frame(&layout.frame, 0, 0x9000, 0);
            assert_eq!(Link::parse(&layout.frame, &nothing).unwrap().frame, None);
        }
    }

    #[test]
    fn a_thread_s_own_copy_of_the_bytecode() {
        let layout = &layout::free_threaded((3, 14)).unwrap().frame;
        let copies = layout.copies.unwrap();
        let Instr::Pointer { at, .. } = layout.instr else { panic!("{layout:?}") };
        let mut bytes = frame(layout, 0x7000, 0x9000, 0);
        bytes[at as usize..at as usize + 8].copy_from_slice(&0xa064_u64.to_le_bytes());
        let place = |index: i32, bytes: &mut Vec<u8>| {
            let at = copies.index as usize;
            bytes[at..at + 4].copy_from_slice(&index.to_le_bytes());
            Link::parse(layout, bytes).unwrap().frame.unwrap()
        };
        // The code object's table of two copies.
        let mut memory = FakeMemory::default();
        memory.map(0x7000, 0x1000);
        memory.put(0x7000 + copies.array, 0x7800);
        memory.put(0x7800, 2);
        memory.put(0x7810, 0xa000);
        let frame = place(1, &mut bytes);
        assert_eq!(frame.place, Place::InCopy(Addr(0xa064), 1));
        assert_eq!(frame.byte_offset(&memory, layout), Ok(Some(0x64)));
        // There is no third, and none that begins behind.
        assert_eq!(place(2, &mut bytes).byte_offset(&memory, layout), Err(CopyGone));
        memory.put(0x7810, 0xb000);
        assert_eq!(frame.byte_offset(&memory, layout), Err(CopyGone));
        assert!(!matches!(place(0, &mut bytes).place, Place::InCopy(..)));
        assert!(!matches!(place(-1, &mut bytes).place, Place::InCopy(..)));
    }

    #[test]
    fn boundaries_are_no_frames() {
        for layout in layouts().filter(|layout| layout.frame.owner.is_some()) {
            for (owner, boundary) in [(0, false), (1, false), (2, false), (3, true), (4, true)] {
                let bytes = frame(&layout.frame, 0x7000, 0, owner);
                let link = Link::parse(&layout.frame, &bytes).unwrap();
                assert_eq!(link.frame.is_none(), boundary, "{owner} in {:?}", layout.version);
            }
        }
    }

    #[test]
    fn a_frame_that_has_not_begun_has_no_place() {
        for layout in layouts() {
            let mut bytes = frame(&layout.frame, 0x7000, 0, 0);
            match layout.frame.instr {
                Instr::Pointer { at, code_start } => bytes[at as usize..at as usize + 8]
                    .copy_from_slice(&(0x7000 + code_start - 2).to_le_bytes()),
                Instr::Index { at, .. } => {
                    bytes[at as usize..at as usize + 4].copy_from_slice(&(-1_i32).to_le_bytes());
                }
            }
            let link = Link::parse(&layout.frame, &bytes).unwrap();
            assert_eq!(link.frame.unwrap().place, Place::NotBegun, "{:?}", layout.version);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_link_or_none(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            for layout in layouts() {
                let link = Link::parse(&layout.frame, &bytes);
                prop_assert_eq!(link.is_some(), bytes.len() >= layout.frame.bytes());
                if let Some(Link { frame: Some(frame), .. }) = link {
                    prop_assert!(!frame.code.is_null() && frame.code.0 % 8 == 0);
                }
            }
        }
    }
}
