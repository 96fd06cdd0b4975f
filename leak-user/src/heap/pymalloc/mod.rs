//! pymalloc: CPython's allocator for blocks of up to 512 bytes.
//!
//! Arenas (1 MiB) are cut into pools (16 KiB, aligned); a pool serves one size class. Blocks are
//! carved off a pool in order of address; freed ones form a list through their first words.
//! Source: CPython's `Include/internal/pycore_obmalloc.h` and `Objects/obmalloc.c`; the same in 3.10
//! to 3.14.

mod arenas;
mod blocks;
mod census;
mod pool;

pub use arenas::{Arena, Arenas};
pub use blocks::{BlockState, Blocks, Walked};
pub use census::{Census, census};
pub use pool::{CLASSES, PoolHeader};

#[cfg(test)]
pub(in crate::heap) use census::tests;

use std::thread;

use crate::target::memory::ReadError;

/// What changed while it was read, or was caught in the midst of a change, is read so often.
const ATTEMPTS: u32 = 8;

/// So often at once; before the others, others may work: it may be this thread that the target waits for.
const AT_ONCE: u32 = 3;

/// The attempts to read what the target is at work on.
fn attempts() -> impl Iterator<Item = u32> {
    (0..ATTEMPTS).inspect(|attempt| {
        if *attempt > AT_ONCE {
            thread::yield_now();
        }
    })
}

/// pymalloc's state could not be read.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum PymallocError {
    /// A read failed.
    #[error("pymalloc's state could not be read: {0}")]
    Read(#[from] ReadError),
    /// The variables do not hold what pymalloc keeps there: wrong addresses, or another build.
    #[error("no pymalloc state at the given addresses: {what} is {value:#x}")]
    Implausible {
        /// The variable.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The array of arenas kept moving while it was read.
    #[error("the arenas changed while they were read: try again")]
    Moving,
}
