//! The few milliseconds from the first attach to the last drop go before everything else.
//!
//! In between, each hit traps whether or not the gate is open. On a machine without an idle core the threads that
//! attach, open the gate and drop the probes wait for their turn like any other, while the target traps
//! for nothing. So they run in real time for as long as that takes: they wait for the kernel mostly.

use std::io;

/// The calling thread is ahead of all ordinary ones, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Ahead {
    /// Had it been an ordinary one? Otherwise somebody has chosen its place, and it stays there.
    moved: bool,
}

impl Ahead {
    /// Puts the calling thread, and what it forks, ahead.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_SYS_NICE, or in a control group that has no time for real-time tasks.
    pub fn of_the_others() -> io::Result<Self> {
        // SAFETY: asks for a number; 0 is the calling thread.
        let moved = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER;
        if moved {
            schedule(libc::SCHED_FIFO, 1)?;
        }
        Ok(Self { moved })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.moved {
            // To step back takes no privilege.
            let _ = schedule(libc::SCHED_OTHER, 0);
        }
    }
}

/// Sets the policy of the calling thread.
fn schedule(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 is the calling thread; the kernel reads the parameters, which live until it returns.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: asks for a number.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_steps_back_when_it_is_done() {
        let before = policy();
        let ahead = Ahead::of_the_others();
        match &ahead {
            Ok(_) => assert_eq!(policy(), libc::SCHED_FIFO),
            // Not root's: it stays where it was.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        drop(ahead);
        assert_eq!(policy(), before);
    }
}
