//! leaktrace keeps off the processors that the target is at work on, where it has others.
//!
//! A thread that wakes up is put where it last ran, or where the one runs that woke it, and goes first there for a
//! while: where that was the target's processor, the target waited, however idle the others were, and no budget knew
//! of it.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd;
use procfs::process::{Process, Stat};

use crate::units::Pid;

/// Threads of the target that are looked at; the main one comes first.
const MOST_THREADS: usize = 32;

/// What it takes to keep off.
#[derive(Debug)]
pub struct Elsewhere {
    target: Pid,
    /// Where this thread was allowed to be; None where that can't be had (more than 1,024 processors).
    allowed: Option<CpuSet>,
    chosen: Option<CpuSet>,
}

impl Elsewhere {
    /// Moves nobody yet.
    #[must_use]
    pub fn than(target: Pid) -> Self {
        let allowed = sched_getaffinity(unistd::Pid::from_raw(0)).ok();
        Self { target, allowed, chosen: allowed }
    }

    /// Moves this thread, and one process of leaktrace's, off where the target is now. What they start from now on
    /// begins there too.
    pub fn go(&mut self, also: Option<Pid>) {
        let Some(allowed) = self.allowed else { return };
        let chosen = without(allowed, &busy(self.target));
        if self.chosen == Some(chosen) {
            return;
        }
        self.chosen = Some(chosen);
        let also = also.map(|pid| unistd::Pid::from_raw(pid.0.cast_signed()));
        for pid in [Some(unistd::Pid::from_raw(0)), also].into_iter().flatten() {
            // Who may not move stays.
            let _ = sched_setaffinity(pid, &chosen);
        }
    }

    /// Lets this thread be where it was allowed to be.
    pub fn back(&mut self) {
        self.chosen = self.allowed;
        if let Some(allowed) = self.allowed {
            // Who may not move stays.
            let _ = sched_setaffinity(unistd::Pid::from_raw(0), &allowed);
        }
    }
}

/// Does a thread of the target run, or wait for a processor? Unlike its processor time, of which others are told at
/// ticks, this is as of now.
#[must_use]
pub fn is_at_work(target: Pid) -> bool {
    threads(target).iter().any(|(_, stat)| stat.state == RUNS)
}

/// A thread's state where it runs, or is about to.
const RUNS: char = 'R';

/// The processors of the threads that run, and that of the main one, which ran there last.
fn busy(target: Pid) -> Vec<usize> {
    let threads = threads(target);
    let main = target.0.cast_signed();
    let counts = threads.iter().filter(|(tid, stat)| *tid == main || stat.state == RUNS);
    counts.filter_map(|(_, stat)| usize::try_from(stat.processor?).ok()).collect()
}

/// The first threads, and what the kernel says of each.
fn threads(target: Pid) -> Vec<(i32, Stat)> {
    let process = Process::new(target.0.cast_signed());
    let tasks = process.and_then(|process| process.tasks()).into_iter().flatten().flatten();
    tasks.take(MOST_THREADS).filter_map(|task| Some((task.tid, task.stat().ok()?))).collect()
}

/// Those that are left; all of them where none is.
fn without(allowed: CpuSet, busy: &[usize]) -> CpuSet {
    let mut left = allowed;
    for processor in busy {
        // One that a set has no place for isn't in it.
        let _ = left.unset(*processor);
    }
    let is_left = (0..CpuSet::count()).any(|processor| left.is_set(processor).unwrap_or(false));
    if is_left { left } else { allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(processors: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        processors.iter().for_each(|processor| set.set(*processor).unwrap());
        set
    }

    #[test]
    fn some_processor_is_always_left() {
        assert_eq!(without(set(&[0, 1, 5]), &[1, 7]), set(&[0, 5]));
        assert_eq!(without(set(&[0, 1]), &[1, 0]), set(&[0, 1]));
        assert_eq!(without(set(&[3]), &[3, 4000]), set(&[3]));
    }

    #[test]
    fn a_thread_that_runs_is_where_it_says() {
        let pid = Pid(std::process::id());
        let own = busy(pid);
        assert!(!own.is_empty() && is_at_work(pid));
        let allowed = sched_getaffinity(unistd::Pid::from_raw(0)).unwrap();
        assert!(own.iter().any(|processor| allowed.is_set(*processor).unwrap()), "{own:?}");
    }
}
