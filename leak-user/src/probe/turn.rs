//! One leaktrace at a time attaches and detaches.
//!
//! The kernel does both under one lock for the whole machine, and holds it for some 80 ms for every
//! probe that goes. Probes attached meanwhile by another leaktrace would come one by one, and be hit
//! for nothing until its last one is there.

use std::fs::{File, OpenOptions};

use nix::fcntl::{Flock, FlockArg};

const PATH: &str = "/run/leaktrace.lock";

/// The right to attach; given back when dropped.
#[derive(Debug)]
pub struct Turn {
    /// Held for its drop. None where the file can't be made (another user's, a read-only /run): then
    /// there is no waiting for each other, only more cost.
    _lock: Option<Flock<File>>,
}

impl Turn {
    /// The right to attach, None while another leaktrace has it.
    #[must_use]
    pub fn take() -> Option<Self> {
        let file = OpenOptions::new().create(true).append(true).open(PATH);
        match file.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Ok(Ok(lock)) => Some(Self { _lock: Some(lock) }),
            Ok(Err((_, nix::Error::EWOULDBLOCK))) => None,
            Ok(Err(_)) | Err(_) => Some(Self { _lock: None }),
        }
    }
}
