//! Keeps the processors from falling asleep: a core that has to wake up first makes the first
//! microseconds of a request slow, and leaktrace's own work would wake it.

use anyhow::{Context as _, Result};
use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A thread for each core that does nothing, and only when nothing else wants the core.
#[must_use]
pub struct Awake {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the kernel refuses the scheduling class.
    pub fn start() -> Result<Self> {
        let mut awake = Self { end: Arc::default(), threads: Vec::new() };
        for _ in 0..thread::available_parallelism()?.get() {
            let end = Arc::clone(&awake.end);
            let (said, idle) = std::sync::mpsc::channel();
            awake.threads.push(thread::spawn(move || {
                let result = run_when_idle();
                let goes_on = result.is_ok();
                // The starter waits for the answer.
                let _ = said.send(result);
                while goes_on && !end.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            }));
            idle.recv()?.context("the scheduler refused the idle class")?;
        }
        Ok(awake)
    }
}

/// Puts this thread behind all others (SCHED_IDLE).
fn run_when_idle() -> std::io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid parameter, read during the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}
