//! Decodes the records of the process tree: length and kind checked, nothing trusted.

use leak_common::tree::kind;

use crate::units::{Nanos, Pid};

/// Something happened to a member of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEvent {
    /// The member.
    pub pid: Pid,
    /// When.
    pub time: Nanos,
    /// What.
    pub what: What,
    /// The name of its thread, which is that of its program unless it chose another.
    pub name: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was born.
    Born {
        /// Who made it.
        parent: Pid,
        /// It runs in its parent's memory until it replaces its program.
        shares_memory: bool,
    },
    /// It replaced its program.
    Replaced,
    /// It ended.
    Ended,
}

/// Decodes one record; None where it makes no sense.
#[must_use]
pub fn decode(record: &[u8]) -> Option<TreeEvent> {
    let half = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let what = match half(0)? {
        kind::BORN => What::Born { parent: Pid(half(8)?), shares_memory: half(12)? != 0 },
        kind::EXEC => What::Replaced,
        kind::ENDED => What::Ended,
        _ => return None,
    };
    let time = Nanos(u64::from_le_bytes(record.get(16..24)?.try_into().ok()?));
    let name = record.get(24..40)?.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some(TreeEvent { pid: Pid(half(4)?), time, what, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(words: [u32; 4], time: u64) -> Vec<u8> {
        let numbers = words.iter().flat_map(|word| word.to_le_bytes()).chain(time.to_le_bytes());
        numbers.chain(*b"sleep\0old name\0\0").collect()
    }

    #[test]
    fn each_kind() {
        let decoded = |kind| decode(&record([kind, 7, 3, 1], 99)).map(|event| event.what);
        let born = What::Born { parent: Pid(3), shares_memory: true };
        assert_eq!(decoded(kind::BORN), Some(born));
        assert_eq!(decoded(kind::EXEC), Some(What::Replaced));
        assert_eq!(decoded(kind::ENDED), Some(What::Ended));
        assert_eq!(decoded(0), None);
        assert_eq!(decode(&record([kind::ENDED, 7, 0, 0], 9)[..39]), None);
        assert_eq!(decode(&record([kind::ENDED, 7, 0, 0], 9)).unwrap().name, "sleep");
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_survived(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
