//! Watching pymalloc by size class, with hardware breakpoints instead of probed instructions.
//!
//! Compilers that optimise the whole interpreter at once (Debian's builds) copy pymalloc's fast path
//! into a hundred places, which no probe on its functions sees, and which are too many to attach to
//! and drop for every burst (the kernel takes 80 ms to clean up after each). But every copy loads the
//! head of the size class's list of pools. A data breakpoint on that word sees them all, costs some
//! 4 µs a hit, patches nothing, and is set and dropped in well under a millisecond. x86-64 has four:
//! the classes that grow are watched, in turn.

use std::{error::Error, io, iter};

use aya::programs::{
    PerfEvent, ProgramError,
    perf_event::{
        BreakpointConfig, PerfBreakpointLength, PerfBreakpointType, PerfEventConfig, PerfEventLink,
        PerfEventScope, SamplePolicy,
    },
};

use leak_common::config::HEAD_WRITES;

use super::{
    error::{ProbeError, refused},
    object::Object,
};
use crate::units::{Addr, Tid};

/// Debug registers of a thread.
pub const AT_ONCE: usize = 4;

/// The word that every allocation of a size class (1..=32) loads.
#[must_use]
pub fn head(usedpools: Addr, size_class: u32) -> Addr {
    usedpools.offset(16 * u64::from(size_class.saturating_sub(1)))
}

/// Breakpoints that are set; dropping removes them.
pub struct Breakpoints {
    /// Held for their drop.
    _links: Vec<PerfEventLink>,
    /// Those that were refused for a living thread.
    pub refused: u64,
}

/// One breakpoint, by the register that it takes.
#[derive(Debug, Clone, Copy)]
pub enum Watch {
    /// Every use of a word.
    Uses(Addr),
    /// The writes to it, told apart from its uses ([`HEAD_WRITES`]).
    Writes(Addr),
}

impl Watch {
    fn breakpoint(self) -> BreakpointConfig {
        match self {
            Self::Uses(word) => BreakpointConfig::Data {
                r#type: PerfBreakpointType::ReadWrite,
                address: word.0,
                length: PerfBreakpointLength::Len8,
            },
            Self::Writes(word) => BreakpointConfig::Data {
                r#type: PerfBreakpointType::Write,
                address: word.offset(HEAD_WRITES).0,
                length: PerfBreakpointLength::Len4,
            },
        }
    }
}

/// Sets up to [`AT_ONCE`] breakpoints for every thread. A thread that ended meanwhile needs
/// none; at least one thread must have all of them.
///
/// # Errors
/// [`ProbeError::Program`] where no thread could be watched (no debug registers free: a debugger uses
/// them, or the machine has none).
pub fn set(
    object: &mut Object,
    watches: &[Watch],
    threads: &[Tid],
) -> Result<Breakpoints, ProbeError> {
    const NAME: &str = "class_access";
    let program: &mut PerfEvent = object.program(NAME)?;
    let mut links = Vec::new();
    let (mut failure, mut refusals) = (None, 0);
    for thread in threads {
        for watch in watches {
            let breakpoint = PerfEventConfig::Breakpoint(watch.breakpoint());
            let scope = PerfEventScope::OneProcess { pid: thread.0, cpu: None };
            let attached = program
                .attach(breakpoint, scope, SamplePolicy::Period(1), false)
                .and_then(|id| program.take_link(id));
            match attached {
                Ok(link) => links.push(link),
                Err(error) => {
                    refusals += u64::from(!has_ended(&error));
                    failure = Some(error);
                }
            }
        }
    }
    match failure {
        Some(error) if links.len() < watches.len() => Err(refused(NAME)(error)),
        _ => Ok(Breakpoints { _links: links, refused: refusals }),
    }
}

/// Was the thread gone (`ESRCH`)?
fn has_ended(error: &ProgramError) -> bool {
    let first: &dyn Error = error;
    let mut causes = iter::successors(Some(first), |error| (*error).source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.and_then(io::Error::raw_os_error) == Some(libc::ESRCH)
    })
}
