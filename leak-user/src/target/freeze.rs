//! A process that stands still while it is looked at.
//!
//! Its threads are stopped by ptrace (`PTRACE_SEIZE`, `PTRACE_INTERRUPT`, Linux 3.4): if leaktrace ends, in whatever way,
//! the kernel lets them run on. Needs `CAP_SYS_PTRACE`. No signal is held back: one that a thread was about to get it gets
//! before it stops. A system call that waits is begun anew, or ends with `EINTR` where it would at any signal
//! (`signal(7)`), which Python's own calls repeat. A thread that replaces the program in this very moment waits for the
//! others to end, and leaktrace for it, until leaktrace is ended.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd;

use super::error::TargetError;
use super::process::{tasks, thread_has_ended};
use crate::units::{Nanos, Pid};

/// Threads have so long to stop; one that waits in the kernel for a disk or a device may not.
const LIMIT: Duration = Duration::from_secs(1);

/// Between two looks at whether a thread has stopped.
const STEP: Duration = Duration::from_micros(100);

/// Why a process was not stopped. It runs on.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// Another process traces it.
    #[error(
        "process {pid} can't be stopped: another process traces it (a debugger perhaps), or the rights are missing"
    )]
    Traced {
        /// The process.
        pid: Pid,
    },
    /// A thread doesn't stop.
    #[error(
        "thread {thread} of process {pid} did not stop within {LIMIT:?}: it waits in the kernel"
    )]
    Busy {
        /// The process.
        pid: Pid,
        /// The thread.
        thread: i32,
    },
    /// The kernel's.
    #[error("process {pid} can't be stopped")]
    Kernel {
        /// The process.
        pid: Pid,
        /// Why.
        source: Errno,
    },
    /// Its threads can't be listed.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// A process whose threads stand still; they run on when this is dropped.
#[derive(Debug)]
pub struct Frozen {
    since: Instant,
    threads: BTreeSet<unistd::Pid>,
}

impl Frozen {
    /// Stops all threads of a process. To be dropped by the same thread.
    ///
    /// # Errors
    /// [`FreezeError`]: then it runs on.
    pub fn new(pid: Pid) -> Result<Self, FreezeError> {
        let mut frozen = Self { since: Instant::now(), threads: BTreeSet::new() };
        // A thread that still runs may start others.
        while frozen.stop_new(pid)? {}
        Ok(frozen)
    }

    /// For how long they have been standing still.
    #[must_use]
    pub fn elapsed(&self) -> Nanos {
        Nanos(u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Stops the threads that aren't known yet. Were there any?
    fn stop_new(&mut self, pid: Pid) -> Result<bool, FreezeError> {
        let mut new = Vec::new();
        for task in tasks(pid)? {
            let thread = unistd::Pid::from_raw(task.tid.0.cast_signed());
            if self.threads.contains(&thread) {
                continue;
            }
            match ptrace::seize(thread, ptrace::Options::empty()) {
                Ok(()) => {}
                Err(_) if thread_has_ended(pid, task.tid) => continue,
                Err(Errno::EPERM) => return Err(FreezeError::Traced { pid }),
                Err(source) => return Err(FreezeError::Kernel { pid, source }),
            }
            self.threads.insert(thread);
            interrupt(pid, thread)?;
            new.push(thread);
        }
        let until = Instant::now() + LIMIT;
        for thread in &new {
            self.await_stop(pid, *thread, until)?;
        }
        Ok(!new.is_empty())
    }

    fn await_stop(
        &mut self,
        pid: Pid,
        thread: unistd::Pid,
        until: Instant,
    ) -> Result<(), FreezeError> {
        loop {
            match state(thread) {
                Ok(State::Stopped) => return Ok(()),
                Ok(State::Ended) | Err(Errno::ECHILD) => {
                    self.threads.remove(&thread);
                    return Ok(());
                }
                Ok(State::AboutToGet(signal)) => {
                    // It gets the signal, and stops then.
                    interrupt(pid, thread)?;
                    go_on(thread, signal).map_err(|source| FreezeError::Kernel { pid, source })?;
                }
                Ok(State::Running) if Instant::now() < until => thread::sleep(STEP),
                Ok(State::Running) => {
                    return Err(FreezeError::Busy { pid, thread: thread.as_raw() });
                }
                Err(Errno::EINTR) => {}
                Err(source) => return Err(FreezeError::Kernel { pid, source }),
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for thread in &self.threads {
            // One that would not stop can't be let go by name: the kernel does it when leaktrace ends, which it does now.
            if let Err(error) = ptrace::detach(*thread, None) {
                tracing::debug!(%thread, %error, "not detached");
            }
        }
    }
}

fn interrupt(pid: Pid, thread: unistd::Pid) -> Result<(), FreezeError> {
    match ptrace::interrupt(thread) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(source) => Err(FreezeError::Kernel { pid, source }),
    }
}

/// What a thread does that is to stop.
enum State {
    Running,
    Stopped,
    /// It has stopped since a signal of this number is on its way to it.
    AboutToGet(i32),
    Ended,
}

/// Asks, and doesn't wait. By the C library, for nix knows no real-time signals.
fn state(thread: unistd::Pid) -> Result<State, Errno> {
    let mut status = 0;
    // SAFETY: the pointer is to a variable of ours.
    let changed =
        unsafe { libc::waitpid(thread.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
    if Errno::result(changed)? == 0 {
        return Ok(State::Running);
    }
    Ok(match status {
        _ if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) => State::Ended,
        // Stops that are no signal's have an event above it.
        _ if libc::WIFSTOPPED(status) && status >> 16 == 0 => {
            State::AboutToGet(libc::WSTOPSIG(status))
        }
        _ => State::Stopped,
    })
}

/// Lets a stopped thread run on, with a signal.
fn go_on(thread: unistd::Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: this request reads no memory of ours.
    let done = unsafe { libc::ptrace(libc::PTRACE_CONT, thread.as_raw(), 0, signal) };
    match Errno::result(done) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error),
    }
}
