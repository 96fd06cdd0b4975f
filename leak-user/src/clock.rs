//! The two clocks: the one that the programs in the kernel read, and the time that a thread has run.

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};

use crate::units::Nanos;

/// `CLOCK_MONOTONIC`, as the programs read it.
#[must_use]
pub fn now() -> Nanos {
    read(ClockId::CLOCK_MONOTONIC)
}

/// For how long this thread has run: on a busy machine, others run in between.
#[must_use]
pub fn thread_time() -> Nanos {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Both clocks always exist.
fn read(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
    Nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
