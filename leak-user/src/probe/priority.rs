//! Who observes steps behind all others' work, from the time that all is loaded until the report: somebody waits for
//! both; the few milliseconds from the first attach to the last drop go before it.
//!
//! Where no core is idle, what leaktrace takes somebody else lacks: the target, or who asks it, who then takes the
//! target's core. No budget of probes knows of that, so leaktrace takes a third of what an ordinary thread would: where
//! many wait for each core, one that takes much less is too late for all that it wants to see.
//!
//! While probes are there, each hit traps whether or not the gate is open. On a machine without an idle core the
//! threads that attach, open the gate and drop the probes would wait for their turn, while the target traps for
//! nothing. So they run in real time for as long as that takes: they wait for the kernel mostly.

use std::io;

/// How nice leaktrace is: an ordinary thread that wants the same core gets three times as much of it.
const BEHIND: i32 = 5;

/// The calling thread, with what it starts, is behind all ordinary ones, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Behind {
    /// Had it been an ordinary one? Otherwise somebody has chosen its place, and it stays there.
    moved: bool,
}

impl Behind {
    /// Puts the calling thread behind.
    pub fn the_others() -> Self {
        // SAFETY: asks for a number; 0 is the calling thread. An error reads as -1, a place like any other.
        let is_ordinary = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } == 0;
        Self { moved: is_ordinary && be_nice(BEHIND) }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if self.moved {
            // Who may not come back stays.
            be_nice(0);
        }
    }
}

/// How nice the calling thread is from now on; false where it may not.
fn be_nice(niceness: i32) -> bool {
    // SAFETY: passes numbers alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) == 0 }
}

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

    fn niceness() -> i32 {
        // SAFETY: asks for a number.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn who_steps_behind_comes_back_and_a_place_given_is_kept() {
        // A thread of its own: one that may not come back stays.
        let places = std::thread::spawn(|| {
            let given = niceness();
            let behind = Behind::the_others();
            let first = niceness();
            let second = Behind::the_others();
            drop(Ahead::of_the_others());
            drop(second);
            let still = niceness();
            drop(behind);
            [given, first, still, niceness()]
        });
        let [given, first, still, last] = places.join().unwrap();
        assert_eq!(first, if given == 0 { BEHIND } else { given });
        assert_eq!(still, first);
        assert!(last == given || !nix::unistd::geteuid().is_root(), "{last} for {given}");
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
