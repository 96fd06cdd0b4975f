//! Decodes ring buffer records: length and kind checked, fields copied, nothing trusted.

use leak_common::{
    MAX_FRAMES,
    event::{FREED_WORDS, NATIVE_WHOLE, Registers, kind},
    sampling,
};

use crate::units::{Addr, Bytes, Nanos, Pid, Tid};

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A stack seen for the first time.
    Stack {
        /// Its id.
        id: u64,
        /// Packed frames, innermost first.
        frames: Vec<u64>,
    },
    /// A native stack seen for the first time.
    NativeStack {
        /// Its id.
        id: u64,
        /// The Python stack that it goes with; 0: none.
        stack: u64,
        /// Where the thread was.
        registers: Registers,
        /// The thread's name, as the thread itself chose it.
        thread: String,
        /// The stack's top, from the stack pointer upwards.
        bytes: Vec<u8>,
    },
    /// A mapping was made.
    Mmap {
        /// Where.
        region: Region,
        /// It is anonymous: memory of its own, no file's.
        anonymous: bool,
        /// It may be executed.
        code: bool,
        /// How many mappings it stands for, itself included.
        weight: f64,
        /// Who.
        origin: Origin,
    },
    /// Mappings were removed from a range.
    Munmap {
        /// The range.
        region: Region,
        /// When.
        time: Nanos,
    },
    /// A mapping moved or changed its size.
    Mremap {
        /// What it was.
        old: Region,
        /// What it is.
        new: Region,
        /// Who.
        origin: Origin,
    },
    /// The program break moved up.
    Brk {
        /// By so much; where growth is sampled, what this sample stands for.
        grown: Bytes,
        /// Who.
        origin: Origin,
    },
    /// The kernel ended a burst.
    GateClosed {
        /// The burst.
        burst: u64,
    },
    /// A rare call of a GPU's library.
    Gpu(GpuCall),
    /// A block of pymalloc's is about to be freed.
    Freed {
        /// Its first bytes.
        content: Vec<u8>,
    },
    /// A thread ended.
    Exit {
        /// The thread, as the initial pid namespace numbers it.
        tid: Tid,
    },
    /// The process replaced its program.
    Exec,
    /// A child process was born.
    Fork {
        /// The new one, as the initial pid namespace numbers it.
        child: Pid,
    },
}

/// A range of the target's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Start.
    pub start: Addr,
    /// Length.
    pub length: Bytes,
}

/// Who did it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The Python stack; 0: none.
    pub stack: u64,
    /// The native stack; 0: none.
    pub native: u64,
    /// The thread.
    pub tid: Tid,
    /// When.
    pub time: Nanos,
}

/// A rare call of a GPU's library; see [`leak_common::gpu::Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuCall {
    /// One of [`leak_common::gpu::does`].
    pub does: u32,
    /// One of [`leak_common::gpu::memory`].
    pub memory: u32,
    /// Its number in `gpu::calls`.
    pub call: u32,
    /// torch made it.
    pub by_torch: bool,
    /// Where; a handle where physical memory is made or released.
    pub address: Addr,
    /// Bytes.
    pub size: Bytes,
    /// The handle that is mapped; of torch's failure the bytes that it has handed out.
    pub other: u64,
    /// The error; of torch's failure the bytes that it holds.
    pub result: u64,
    /// The device, of torch's failure.
    pub device: u32,
    /// Who.
    pub origin: Origin,
}

/// The record makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record of kind {kind} with {length} bytes makes no sense")]
pub struct BadRecord {
    /// Its kind, 0 where it was too short to have one.
    pub kind: u32,
    /// Its length.
    pub length: usize,
}

const MAP_ANONYMOUS: u64 = 0x20;
const PROT_EXEC: u64 = 4;

/// Decodes one record.
///
/// # Errors
/// [`BadRecord`] where it is too short for its kind, or of an unknown kind.
pub fn decode(record: &[u8]) -> Result<Event, BadRecord> {
    let kind = half(record, 0).unwrap_or(0);
    parse(kind, record).ok_or(BadRecord { kind, length: record.len() })
}

fn half(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

fn parse(kind: u32, record: &[u8]) -> Option<Event> {
    let word = |index: usize| -> Option<u64> {
        let at = 16 + 8 * index;
        Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?))
    };
    let tid = Tid(half(record, 4)?);
    let time = Nanos(u64::from_le_bytes(record.get(8..16)?.try_into().ok()?));
    let region = |start, length| Region { start: Addr(start), length: Bytes(length) };
    let origin = || Some(Origin { stack: word(6)?, native: word(7)?, tid, time });
    Some(match kind {
        kind::STACK => {
            let len =
                usize::try_from(word(1)?).ok().filter(|len| (1..=MAX_FRAMES).contains(len))?;
            let frames = (0..len).map(|i| word(2 + i)).collect::<Option<_>>()?;
            Event::Stack { id: word(0)?, frames }
        }
        kind::NATIVE => {
            let name: Vec<u8> = record.get(56..72)?.split(|b| *b == 0).next()?.to_vec();
            let thread = String::from_utf8_lossy(&name).into_owned();
            let len = usize::try_from(word(7)?).ok().filter(|len| *len <= NATIVE_WHOLE)?;
            let from = 16 + 8 * 8;
            let registers = Registers { ip: word(2)?, sp: word(3)?, bp: word(4)? };
            let bytes = record.get(from..from + len)?.to_vec();
            Event::NativeStack { id: word(0)?, stack: word(1)?, registers, thread, bytes }
        }
        kind::MMAP => {
            let (protection, flags) = (word(4)? & 0xffff_ffff, word(4)? >> 32);
            let anonymous = flags & MAP_ANONYMOUS != 0;
            let code = protection & PROT_EXEC != 0;
            let weight = sampling::weight(word(1)?, word(8)?);
            let region = region(word(0)?, word(1)?);
            Event::Mmap { region, anonymous, code, weight, origin: origin()? }
        }
        kind::MUNMAP => Event::Munmap { region: region(word(0)?, word(1)?), time },
        kind::MREMAP => Event::Mremap {
            old: region(word(2)?, word(3)?),
            new: region(word(0)?, word(1)?),
            origin: origin()?,
        },
        kind::BRK => {
            let length = word(1)?;
            let grown = Bytes((length as f64 * sampling::weight(length, word(8)?)) as u64);
            Event::Brk { grown, origin: origin()? }
        }
        kind::GPU => Event::Gpu(GpuCall {
            does: half(record, 16)?,
            memory: half(record, 20)?,
            call: half(record, 24)?,
            by_torch: half(record, 28)? != 0,
            address: Addr(word(2)?),
            size: Bytes(word(3)?),
            other: word(4)?,
            result: word(5)?,
            device: u32::try_from(word(6)?).ok()?,
            origin: Origin { stack: word(7)?, native: word(8)?, tid, time },
        }),
        kind::GATE_CLOSED => Event::GateClosed { burst: word(0)? },
        kind::FREED => {
            let length = usize::try_from(word(0)?).ok()?.min(8 * FREED_WORDS);
            Event::Freed { content: record.get(24..24 + length)?.to_vec() }
        }
        kind::EXIT => Event::Exit { tid: Tid(u32::try_from(word(1)?).ok()?) },
        kind::EXEC => Event::Exec,
        kind::FORK => Event::Fork { child: Pid(u32::try_from(word(1)?).ok()?) },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, words: &[u64]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), 7_u32.to_le_bytes()].concat();
        bytes.extend(99_u64.to_le_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_stack_ends_where_it_says() {
        let bytes = record(kind::STACK, &[5, 2, 10, 20, 0, 0]);
        assert_eq!(decode(&bytes), Ok(Event::Stack { id: 5, frames: vec![10, 20] }));
    }

    #[test]
    fn a_stack_that_claims_too_much_is_refused() {
        for words in [&[5, 3, 10, 20][..], &[5, 129], &[5, u64::MAX], &[5, 0]] {
            assert!(decode(&record(kind::STACK, words)).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_native_stack_has_as_many_bytes_as_it_says() {
        let name = u64::from_le_bytes(*b"worker-1");
        let words = [7, 5, 0x1000, 0x2000, 0x3000, name, 0, 16, 1, 2, 3];
        let registers = Registers { ip: 0x1000, sp: 0x2000, bp: 0x3000 };
        let bytes = [1_u64, 2].map(u64::to_le_bytes).concat();
        let stack =
            Event::NativeStack { id: 7, stack: 5, registers, thread: "worker-1".into(), bytes };
        assert_eq!(decode(&record(kind::NATIVE, &words)), Ok(stack));
        for len in [25, NATIVE_WHOLE as u64 + 1, u64::MAX] {
            let words = [7, 5, 0x1000, 0x2000, 0x3000, name, 0, len, 1, 2, 3];
            assert!(decode(&record(kind::NATIVE, &words)).is_err(), "{len}");
        }
    }

    #[test]
    fn of_a_freed_block_its_own_bytes_are_kept() {
        let content = |size| match decode(&record(kind::FREED, &[size, 1, 2, 3, 4, 5, 6])) {
            Ok(Event::Freed { content }) => content.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!([16, 48, 512, u64::MAX].map(content), [16, 48, 48, 48]);
        assert!(decode(&record(kind::FREED, &[48, 1, 2, 3, 4, 5])).is_err());
    }

    #[test]
    fn a_sampled_mapping_stands_for_more() {
        let weight = |length, interval| {
            let words = [0x1000, length, 0, 0, MAP_ANONYMOUS << 32, u64::MAX, 0, 0, interval];
            match decode(&record(kind::MMAP, &words)) {
                Ok(Event::Mmap { weight, anonymous: true, .. }) => weight,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(weight(4096, 0), 1.0);
        assert!((weight(4096, 1 << 22) - 1024.5).abs() < 1.0);
        assert!(weight(1 << 30, 1 << 20) < 1.001);
        assert!(weight(0, u64::MAX).is_finite());
    }

    #[test]
    fn a_sampled_growth_of_the_break_stands_for_more() {
        let grown = |length, interval| match decode(&record(
            kind::BRK,
            &[0x9000, length, 0, 0, 0, u64::MAX, 5, 0, interval],
        )) {
            Ok(Event::Brk { grown, origin }) if origin.stack == 5 => grown.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(grown(0x2000, 0), 0x2000);
        assert!((1 << 22..(1 << 22) + 4096).contains(&grown(4096, 1 << 22)));
        assert_eq!(grown(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let bytes = record(99, &[0; 8]);
        assert_eq!(decode(&bytes), Err(BadRecord { kind: 99, length: bytes.len() }));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_survived(mut bytes: Vec<u8>, kind in 0_u8..12) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = decode(&bytes);
        }
    }
}
