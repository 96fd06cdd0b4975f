//! Page faults of the target, sampled: each one looked at tells which line touched fresh memory.
//!
//! While any are sampled, the kernel takes some 0.1 to 0.4 µs longer for every fault. So it happens in
//! windows, one part in fifteen of the time.

use aya::programs::{
    PerfEvent,
    perf_event::{PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent},
};

use super::{
    error::{ProbeError, refused},
    object::Object,
};
use crate::units::{Bytes, Nanos, Pid, Tid};

/// In a window, one page fault in so many is looked at.
const PERIOD: u64 = 16;

/// A window's length.
const WINDOW: Nanos = Nanos(100_000_000);

/// The pause after a window: between once and twice this.
const PAUSE: Nanos = Nanos(900_000_000);

/// The windows so far.
pub struct Faults {
    start: Nanos,
    open: Option<Window>,
    /// When the next one opens.
    next: Nanos,
    watched: Nanos,
}

struct Window {
    since: Nanos,
    /// Held for their drop.
    _links: Vec<PerfEventLink>,
}

impl Faults {
    /// None yet; the first opens at once.
    #[must_use]
    pub fn new(start: Nanos) -> Self {
        Self { start, open: None, next: start, watched: Nanos(0) }
    }

    /// Opens or closes a window if it is time. `threads` are asked for where one opens; those born in it
    /// are seen too.
    ///
    /// # Errors
    /// [`ProbeError::Program`] where the main thread can't be watched (it has ended, say).
    pub fn step(
        &mut self,
        object: &mut Object,
        pid: Pid,
        threads: impl FnOnce() -> Vec<Tid>,
        now: Nanos,
    ) -> Result<(), ProbeError> {
        match &self.open {
            Some(window) if now.0 >= window.since.0 + WINDOW.0 => {
                self.watched.0 += now.0.saturating_sub(window.since.0);
                // The clock's fine digits serve as dice, so that no pace of the target is followed.
                self.next = Nanos(now.0 + PAUSE.0 + now.0 % PAUSE.0);
                self.open = None;
            }
            None if now >= self.next => {
                let links = attach(object, pid, &threads())?;
                self.open = Some(Window { since: now, _links: links });
            }
            _ => {}
        }
        Ok(())
    }

    /// What a fault that was looked at stands for, up to now: so many bytes of pages touched first. Huge
    /// pages, and pages of files that are mapped several at a time, are more.
    #[must_use]
    pub fn bytes_each(&self, now: Nanos) -> Bytes {
        let current = self.open.as_ref().map_or(0, |window| now.0.saturating_sub(window.since.0));
        let watched = (self.watched.0 + current).max(1) as f64;
        let elapsed = now.0.saturating_sub(self.start.0) as f64;
        Bytes((PERIOD as f64 * 4096.0 * (elapsed / watched).max(1.0)) as u64)
    }
}

fn attach(
    object: &mut Object,
    pid: Pid,
    threads: &[Tid],
) -> Result<Vec<PerfEventLink>, ProbeError> {
    const NAME: &str = "page_fault";
    let faults: &mut PerfEvent = object.program(NAME)?;
    let mut links = Vec::new();
    for thread in threads {
        let attached = faults.attach(
            PerfEventConfig::Software(SoftwareEvent::PageFaults),
            PerfEventScope::OneProcess { pid: thread.0, cpu: None },
            SamplePolicy::Period(PERIOD),
            true,
        );
        match attached.and_then(|id| faults.take_link(id)) {
            Ok(link) => links.push(link),
            // A thread that ended meanwhile needs none; the main thread has to be there.
            Err(error) if thread.0 == pid.0 => return Err(refused(NAME)(error)),
            Err(_) => {}
        }
    }
    Ok(links)
}
