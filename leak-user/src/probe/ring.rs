//! Reads the ring buffer.

use std::os::fd::AsFd as _;

use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{error::ProbeError, object::Object, tables::take};
use crate::{
    collect::decode::{Event, decode},
    units::Nanos,
};

/// Events taken in one go at most, so that a storm can't starve the rest.
const BATCH: usize = 4096;

/// The reading end.
pub struct Ring {
    ring: RingBuf<MapData>,
    /// Records that made no sense.
    pub bad_records: u64,
}

impl Ring {
    /// Takes the ring out of the object.
    ///
    /// # Errors
    /// [`ProbeError`] where the object has none.
    pub fn new(object: &mut Object) -> Result<Self, ProbeError> {
        let ring = take(object, "RING")?;
        Ok(Self { ring, bad_records: 0 })
    }

    /// Waits until there is something to read, at most `timeout`; a signal ends the wait.
    pub fn wait(&self, timeout: Nanos) {
        // Rounded up: a wait that ends a moment early would spin.
        let millis = timeout.0.div_ceil(1_000_000).min(60_000) as u16;
        let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        // An error is a signal: the caller looks at its flags and comes again.
        let _ = poll(&mut fds, PollTimeout::from(millis));
    }

    /// Takes what is there, at most some thousands of events.
    pub fn drain(&mut self, events: &mut Vec<Event>) {
        for _ in 0..BATCH {
            let Some(record) = self.ring.next() else { return };
            match decode(&record) {
                Ok(event) => events.push(event),
                Err(_) => self.bad_records += 1,
            }
        }
    }
}
