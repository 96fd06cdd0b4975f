//! The clocks: the one that the programs in the kernel read, and for how long a thread or a process has run.

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_getcpuclockid, clock_gettime},
};

use crate::units::{Nanos, Pid};

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

/// For how long all threads of a process have run, those that have ended too; None: it has ended.
#[must_use]
pub fn process_time(pid: Pid) -> Option<Nanos> {
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(pid.0.cast_signed())).ok()?;
    clock_gettime(clock).ok().map(nanos)
}

/// Both clocks always exist.
fn read(clock: ClockId) -> Nanos {
    nanos(clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0)))
}

fn nanos(time: TimeSpec) -> Nanos {
    Nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_run_for_longer_than_one_of_its_threads() {
        let own = Pid(std::process::id());
        let thread = thread_time();
        assert!(thread.0 > 0 && process_time(own).unwrap() >= thread);
    }

    #[test]
    fn a_process_that_has_ended_has_no_clock() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(process_time(Pid(child.id())), None);
    }
}
