//! Reading the target's memory from outside: `process_vm_readv`, nothing written, nothing stopped.
//!
//! Needs `CAP_SYS_PTRACE` (or the same user and no Yama restriction).

use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use crate::units::{Addr, Pid};

/// How many pieces one system call takes (`UIO_MAXIOV`).
const PIECES: usize = 1024;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
