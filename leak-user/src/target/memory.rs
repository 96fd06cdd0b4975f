//! Reading the target's memory from outside: `process_vm_readv`, nothing written, nothing stopped.
//!
//! Needs `CAP_SYS_PTRACE` (or the same user and no Yama restriction).

use std::io::IoSliceMut;
use std::ops::Range;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use crate::units::{Addr, Pid};

/// How many pieces one system call takes (`UIO_MAXIOV`).
const PIECES: usize = 1024;

/// Pieces with less than this between them are read as one. The kernel looks up each piece's page, which takes longer
/// than to copy so much. It is less than a page: where both are mapped, so is what lies between them.
const NEAR: u64 = 512;

/// A read failed.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// Nothing (or not all of it) is mapped there.
    #[error("no memory at {0}")]
    Unmapped(Addr),
    /// The process has ended.
    #[error("the process has ended")]
    Gone,
    /// The kernel forbids it.
    #[error("not allowed to read the process's memory (needs root or CAP_SYS_PTRACE)")]
    Forbidden,
}

/// Memory that can be read at an address: a process, or a fake one in tests.
pub trait Memory {
    /// Fills `out` from `addr`, wholly or with an error.
    ///
    /// # Errors
    /// [`ReadError`], with `out` in an unspecified state.
    fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError>;

    /// Fills many pieces; returns for each whether it could be read.
    fn read_scattered(&self, pieces: &mut [(Addr, &mut [u8])]) -> Vec<bool> {
        pieces.iter_mut().map(|(addr, out)| self.read(*addr, out).is_ok()).collect()
    }

    /// An 8-byte word.
    ///
    /// # Errors
    /// [`ReadError`].
    fn word(&self, addr: Addr) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A pointer.
    ///
    /// # Errors
    /// [`ReadError`].
    fn pointer(&self, addr: Addr) -> Result<Addr, ReadError> {
        self.word(addr).map(Addr)
    }

    /// A 4-byte number.
    ///
    /// # Errors
    /// [`ReadError`].
    fn half(&self, addr: Addr) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// The memory of a live process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessMemory {
    pid: nix::unistd::Pid,
}

impl ProcessMemory {
    /// Does not read yet, so cannot fail.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { pid: nix::unistd::Pid::from_raw(pid.0.cast_signed()) }
    }

    /// Fills each piece by itself; returns for each whether it could be read.
    fn read_apart(&self, pieces: &mut [(Addr, &mut [u8])]) -> Vec<bool> {
        let mut done = vec![false; pieces.len()];
        let mut start = 0;
        while start < pieces.len() {
            let batch = &mut pieces[start..];
            let len = batch.len().min(PIECES);
            let remote: Vec<_> = batch[..len]
                .iter()
                .map(|(addr, out)| RemoteIoVec { base: addr.0 as usize, len: out.len() })
                .collect();
            let mut local: Vec<_> =
                batch[..len].iter_mut().map(|(_, out)| IoSliceMut::new(out)).collect();
            let mut read = process_vm_readv(self.pid, &mut local, &remote).unwrap_or(0);
            // The call stops at the first piece that it can't read: that one is skipped.
            let mut whole = 0;
            while whole < len && read >= remote[whole].len {
                read -= remote[whole].len;
                done[start + whole] = true;
                whole += 1;
            }
            start += if whole < len { whole + 1 } else { whole };
        }
        done
    }

    /// Fills the pieces from the runs that they lie in.
    fn read_runs(
        &self,
        pieces: &mut [(Addr, &mut [u8])],
        Runs { order, runs }: &Runs,
    ) -> Vec<bool> {
        let mut held: Vec<Vec<u8>> = runs.iter().map(|run| vec![0; run.bytes()]).collect();
        let mut wanted: Vec<(Addr, &mut [u8])> = runs
            .iter()
            .zip(&mut held)
            .map(|(run, bytes)| (run.start, bytes.as_mut_slice()))
            .collect();
        let read = self.read_apart(&mut wanted);
        let mut done = vec![false; pieces.len()];
        for ((run, bytes), read) in runs.iter().zip(&held).zip(read) {
            for at in &order[run.pieces.clone()] {
                let (addr, out) = &mut pieces[*at];
                let from = (addr.0 - run.start.0) as usize;
                done[*at] = match bytes.get(from..from.saturating_add(out.len())) {
                    Some(bytes) if read => {
                        out.copy_from_slice(bytes);
                        true
                    }
                    // One of the run isn't there.
                    _ => self.read(*addr, out).is_ok(),
                };
            }
        }
        done
    }
}

/// Pieces that lie near each other.
#[derive(Debug)]
struct Run {
    start: Addr,
    end: Addr,
    /// Which ones, of those in order of address.
    pieces: Range<usize>,
}

impl Run {
    fn bytes(&self) -> usize {
        (self.end.0 - self.start.0) as usize
    }
}

/// All runs of some pieces.
#[derive(Debug)]
struct Runs {
    /// The pieces by address.
    order: Vec<usize>,
    runs: Vec<Run>,
}

impl Runs {
    /// Of pieces that may overlap.
    fn of(pieces: &[(Addr, &mut [u8])]) -> Self {
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_unstable_by_key(|at| pieces[*at].0);
        let mut runs: Vec<Run> = Vec::new();
        for (place, at) in order.iter().enumerate() {
            let (start, out) = &pieces[*at];
            let end = Addr(start.0.saturating_add(out.len() as u64));
            match runs.last_mut() {
                Some(run) if start.0.saturating_sub(run.end.0) < NEAR => {
                    run.end = run.end.max(end);
                    run.pieces.end = place + 1;
                }
                _ => runs.push(Run { start: *start, end, pieces: place..place + 1 }),
            }
        }
        Self { order, runs }
    }
}

fn error(errno: nix::Error, addr: Addr) -> ReadError {
    match errno {
        nix::Error::ESRCH => ReadError::Gone,
        nix::Error::EPERM => ReadError::Forbidden,
        _ => ReadError::Unmapped(addr),
    }
}

impl Memory for ProcessMemory {
    fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
        if out.is_empty() {
            return Ok(());
        }
        let wanted = out.len();
        let remote = [RemoteIoVec { base: addr.0 as usize, len: wanted }];
        match process_vm_readv(self.pid, &mut [IoSliceMut::new(out)], &remote) {
            Ok(read) if read == wanted => Ok(()),
            Ok(_) => Err(ReadError::Unmapped(addr)),
            Err(errno) => Err(error(errno, addr)),
        }
    }

    fn read_scattered(&self, pieces: &mut [(Addr, &mut [u8])]) -> Vec<bool> {
        let runs = Runs::of(pieces);
        // What is to be copied once more must be worth it.
        if runs.runs.len() * 2 > pieces.len() {
            self.read_apart(pieces)
        } else {
            self.read_runs(pieces, &runs)
        }
    }
}

/// Memory of which some stretches have been read beforehand, all by one system call.
#[derive(Debug)]
pub struct Prefetched<'a, M> {
    memory: &'a M,
    stretches: Vec<(Addr, Vec<u8>)>,
}

impl<'a, M: Memory> Prefetched<'a, M> {
    /// Reads so many bytes from each address on. Where not all of them are there, what is asked for is read then.
    #[must_use]
    pub fn new(memory: &'a M, stretches: &[(Addr, usize)]) -> Self {
        let mut stretches: Vec<(Addr, Vec<u8>)> =
            stretches.iter().map(|(addr, length)| (*addr, vec![0; *length])).collect();
        let mut pieces: Vec<(Addr, &mut [u8])> =
            stretches.iter_mut().map(|(addr, bytes)| (*addr, bytes.as_mut_slice())).collect();
        let mut read = memory.read_scattered(&mut pieces).into_iter();
        stretches.retain(|_| read.next() == Some(true));
        Self { memory, stretches }
    }
}

impl<M: Memory> Memory for Prefetched<'_, M> {
    fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
        let held = self.stretches.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(addr.0.checked_sub(start.0)?).ok()?;
            bytes.get(at..at.checked_add(out.len())?)
        });
        let Some(bytes) = held else { return self.memory.read(addr, out) };
        out.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heap::testing::FakeMemory;
    use crate::target::maps;

    #[test]
    fn what_was_prefetched_is_as_it_was_and_the_rest_as_it_is() {
        let mut memory = FakeMemory::default();
        memory.map(0x1000, 64);
        let before = memory.clone();
        for at in (0x1000..0x1040).step_by(8) {
            memory.put(at, at);
        }
        let ahead = Prefetched::new(&before, &[(Addr(0x1000), 16), (Addr(0x1030), 64)]);
        let ahead = Prefetched { memory: &memory, ..ahead };
        assert_eq!([0x1000, 0x1008].map(|at| ahead.word(Addr(at))), [Ok(0); 2]);
        // One stretch ends there; the other was not there as a whole.
        for at in [0x100c, 0x1010, 0x1030] {
            assert_eq!(ahead.word(Addr(at)), memory.word(Addr(at)));
        }
        assert_eq!(ahead.word(Addr(0x1040)), Err(ReadError::Unmapped(Addr(0x1040))));
    }

    #[test]
    fn reads_this_process_and_skips_holes() {
        let memory = ProcessMemory::new(Pid(std::process::id()));
        let (a, b) = (0x1122_3344_5566_7788_u64, 42_u64);
        let (mut x, mut y, mut z) = ([0; 8], [0; 8], [0; 8]);
        let done = memory.read_scattered(&mut [
            (Addr((&raw const a).addr() as u64), &mut x),
            (Addr(8), &mut y),
            (Addr((&raw const b).addr() as u64), &mut z),
        ]);
        assert_eq!(done, [true, false, true]);
        assert_eq!(u64::from_le_bytes(x), a);
        assert_eq!(u64::from_le_bytes(z), b);
        assert_eq!(memory.word(Addr(8)), Err(ReadError::Unmapped(Addr(8))));
    }

    proptest! {
        /// Near each other, overlapping, where nothing is mapped, at the end of all addresses: each is as if read by itself.
        #[test]
        fn pieces_that_are_read_together_are_those_that_are_read_apart(
            places in proptest::collection::vec(
                (0..8192_usize, 1..200_usize, proptest::bool::weighted(0.05)),
                0..80,
            ),
        ) {
            let memory = ProcessMemory::new(Pid(std::process::id()));
            // Nothing is mapped before it.
            let first = maps::parse(&std::fs::read_to_string("/proc/self/maps").unwrap())[0].start;
            let place = |at: usize, is_far: bool| {
                Addr(if is_far { u64::MAX - at as u64 % 256 } else { first.0 - 4096 + at as u64 })
            };
            let mut together: Vec<Vec<u8>> = places.iter().map(|(_, len, _)| vec![0; *len]).collect();
            let mut pieces: Vec<(Addr, &mut [u8])> = places
                .iter()
                .zip(&mut together)
                .map(|((at, _, is_far), out)| (place(*at, *is_far), out.as_mut_slice()))
                .collect();
            let done = memory.read_scattered(&mut pieces);
            for (((at, len, is_far), done), together) in places.iter().zip(done).zip(&together) {
                let mut apart = vec![0; *len];
                let read = memory.read(place(*at, *is_far), &mut apart);
                prop_assert_eq!(done, read.is_ok());
                if done {
                    prop_assert_eq!(together, &apart);
                }
            }
        }
    }
}
