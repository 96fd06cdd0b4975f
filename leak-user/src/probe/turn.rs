//! One leaktrace at a time attaches and detaches.
//!
//! The kernel does both under one lock for the whole machine, and holds it for some 80 ms for every
//! probe that goes. Probes attached meanwhile by another leaktrace would come one by one, and be hit
//! for nothing until its last one is there.
//!
//! The sessions of one leaktrace share its turn where the kernel attaches by links to many points, whose
//! breakpoints come and go within milliseconds: each is hit by its own process alone.

use std::{
    fs::{File, OpenOptions},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use nix::fcntl::{Flock, FlockArg};

const PATH: &str = "/run/leaktrace.lock";

/// The lock. None where the file can't be made (another user's, a read-only /run): then there is no waiting for
/// each other, only more cost.
type Lock = Option<Flock<File>>;

/// What the sessions of this process share.
static SHARED: Mutex<Weak<Lock>> = Mutex::new(Weak::new());

/// The right to attach; given back when the last that shares it is dropped.
#[derive(Debug)]
pub struct Turn {
    /// Held for its drop.
    _lock: Arc<Lock>,
}

impl Turn {
    /// The right to attach, None while another leaktrace has it; or, unless it can be `shared`, another session of
    /// this one.
    #[must_use]
    pub fn take(shared: bool) -> Option<Self> {
        if !shared {
            return Some(Self { _lock: Arc::new(lock()?) });
        }
        let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = known.upgrade() {
            return Some(Self { _lock: held });
        }
        let held = Arc::new(lock()?);
        *known = Arc::downgrade(&held);
        Some(Self { _lock: held })
    }
}

/// None while it is taken.
fn lock() -> Option<Lock> {
    let file = OpenOptions::new().create(true).append(true).open(PATH);
    match file.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
        Ok(Ok(lock)) => Some(Some(lock)),
        Ok(Err((_, nix::Error::EWOULDBLOCK))) => None,
        Ok(Err(_)) | Err(_) => Some(None),
    }
}
