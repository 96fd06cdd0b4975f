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
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

const PATH: &str = "/run/leaktrace.lock";

/// Whoever waits for its turn asks so often.
const ASK_EVERY: Duration = Duration::from_millis(5);

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

    /// The same, once it can be had; None where that takes longer than `patience`.
    #[must_use]
    pub fn wait(shared: bool, patience: Duration) -> Option<Self> {
        asked_again(patience, || Self::take(shared))
    }
}

fn asked_again<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        match ask() {
            None if start.elapsed() < patience => thread::sleep(ASK_EVERY),
            answer => return answer,
        }
    }
}

/// None while it is taken.
fn lock() -> Option<Lock> {
    lock_at(Path::new(PATH))
}

fn lock_at(path: &Path) -> Option<Lock> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    match file.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
        Ok(Ok(lock)) => Some(Some(lock)),
        Ok(Err((_, nix::Error::EWOULDBLOCK))) => None,
        Ok(Err(_)) | Err(_) => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_has_it_when_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut held = Some(lock_at(&path).unwrap());
        assert!(lock_at(&path).is_none());
        assert!(asked_again(Duration::ZERO, || lock_at(&path)).is_none());
        let mut asked = 0;
        let lock = asked_again(Duration::MAX, || {
            asked += 1;
            if asked == 3 {
                held = None;
            }
            lock_at(&path)
        });
        assert!(lock.flatten().is_some() && held.is_none());
        assert_eq!(asked, 3);
        let unwritable = directory.path().join("none").join("lock");
        assert!(lock_at(&unwritable).is_some_and(|lock| lock.is_none()));
    }
}
