//! Where a thread finds its Python thread state: the slot of `autoTSSkey`, or from 3.15 on a thread-local
//! variable.
//!
//! Both are right with and without the GIL, unlike `_Py_tss_tstate`. Where the slot lies depends on the
//! C library; every way that is known is tried on the live threads, and the one that finds their
//! states is taken.

use super::ThreadSlot;
use super::decode;
use super::error::TargetError;
use super::files::Loaded;
use super::layout::StateSlot;
use super::memory::Memory;
use super::python::Interpreter;
use super::threads::Thread;
use crate::units::{Addr, Pid};

/// Keys that a C library gives out (`PTHREAD_KEYS_MAX` of glibc; musl has 128).
const MAX_KEY: u32 = 1024;
/// Keys in glibc's first block (`PTHREAD_KEY_2NDLEVEL_SIZE`).
const BLOCK: u64 = 32;

/// Threads whose tables of blocks are read: the blocks lie alike in all.
const FEW: usize = 8;

/// Bytes of thread-local variables of all that is there from the start, at most.
const MAX_STATIC: u64 = 1 << 20;

/// Finds the slot.
///
/// # Errors
/// [`TargetError::Inconsistent`] where no way finds the thread states.
pub fn find(
    pid: Pid,
    memory: &impl Memory,
    interpreter: &Interpreter,
) -> Result<ThreadSlot, TargetError> {
    let slots = match interpreter.layout.runtime.thread_state {
        StateSlot::Key(at) => {
            slots(key(pid, memory, interpreter.runtime.offset(at))?.into()).to_vec()
        }
        StateSlot::ThreadLocal => thread_local(&interpreter.file)
            .into_iter()
            .chain(of_library(memory, interpreter))
            .collect(),
    };
    let best = slots
        .into_iter()
        .map(|slot| (matches(memory, slot, &interpreter.threads), slot))
        .max_by_key(|(matches, _)| *matches);
    match best {
        Some((matches, slot)) if matches > 0 => Ok(slot),
        _ if interpreter.layout.runtime.thread_state == StateSlot::ThreadLocal => {
            Err(TargetError::inconsistent(
                "its thread states are found where Python is there from the program's start, not where it is \
                 loaded later",
            ))
        }
        _ => Err(TargetError::inconsistent(
            "no thread's slot for its state could be found (unknown C library?)",
        )),
    }
}

/// The key, where it has been made.
fn key(pid: Pid, memory: &impl Memory, at: Addr) -> Result<u32, TargetError> {
    let read = |addr| memory.half(addr).map_err(|e| TargetError::read(pid, "autoTSSkey", e));
    let initialized = read(Addr(at.0.wrapping_sub(4)))?;
    let key = read(at)?;
    if initialized == 0 || key >= MAX_KEY {
        return Err(TargetError::inconsistent("autoTSSkey is not set"));
    }
    Ok(key)
}

/// The variable at a fixed distance from the fs base that the function returns, as programs have it:
/// `mov %fs:DISTANCE,%rax`.
fn thread_local(file: &Loaded) -> Option<ThreadSlot> {
    let (address, code) = file.code("PyGILState_GetThisThreadState")?;
    let distance = decode::thread_locals(&code, address.0).first().copied()?;
    Some(ThreadSlot { indirect: None, offset: distance })
}

/// The variable as a library has it, whose code asks for its place each time. The blocks of libraries that are there
/// from the start lie before the thread control block, in every thread at the same distance; where that is, the
/// thread's table of blocks says (`dtv`: the second word of the control block; 16 bytes an entry in glibc, 8 in musl).
fn of_library(memory: &impl Memory, interpreter: &Interpreter) -> Vec<ThreadSlot> {
    let Some((address, code)) = interpreter.file.code("PyGILState_GetThisThreadState") else {
        return Vec::new();
    };
    let Some(local) = decode::dynamic_local(&code, address.0) else { return Vec::new() };
    let word = |at| memory.word(Addr(at)).ok();
    let Some((module, offset)) = word(local.index).zip(word(local.index.wrapping_add(8))) else {
        return Vec::new();
    };
    let slot = |thread: &Thread, entry: u64| {
        let table = memory.pointer(thread.fs_base.offset(8)).ok()?;
        let block = memory.pointer(table.offset(module.checked_mul(entry)?)).ok()?;
        let place = block.0.wrapping_add(offset).wrapping_add(local.offset);
        let before = thread.fs_base.0.checked_sub(place).filter(|before| *before < MAX_STATIC)?;
        Some(ThreadSlot { indirect: None, offset: before.wrapping_neg() })
    };
    let entries =
        interpreter.threads.iter().take(FEW).flat_map(|thread| [(thread, 8), (thread, 16)]);
    entries.filter_map(|(thread, entry)| slot(thread, entry)).collect()
}

/// The ways known, for x86-64.
fn slots(key: u64) -> [ThreadSlot; 3] {
    // glibc 2.31 to 2.43, `struct pthread`: `specific_1stblock` at 0x310, 32 entries {seq, data};
    // `specific`, pointers to further blocks of 32, at 0x510.
    let glibc = if key < BLOCK {
        ThreadSlot { indirect: None, offset: 0x310 + key * 16 + 8 }
    } else {
        ThreadSlot { indirect: Some(0x510 + key / BLOCK * 8), offset: key % BLOCK * 16 + 8 }
    };
    // musl, `struct pthread.tsd`: at 0x80 in 1.2, at 0x88 in 1.1.
    let musl = |tsd| ThreadSlot { indirect: Some(tsd), offset: key * 8 };
    // Of equals the last is taken.
    [musl(0x88), musl(0x80), glibc]
}

fn matches(memory: &impl Memory, slot: ThreadSlot, threads: &[Thread]) -> usize {
    threads
        .iter()
        .filter(|thread| state(memory, slot, thread.fs_base) == Some(thread.state))
        .count()
}

/// What the slot of the thread with this fs base holds.
pub fn state(memory: &impl Memory, slot: ThreadSlot, fs_base: Addr) -> Option<Addr> {
    let base = match slot.indirect {
        Some(indirect) => memory.pointer(fs_base.offset(indirect)).ok()?,
        None => fs_base,
    };
    memory.pointer(base.offset(slot.offset)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::memory::ReadError;
    use std::collections::HashMap;

    struct Words(HashMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
            let word = self.0.get(&addr.0).ok_or(ReadError::Unmapped(addr))?.to_le_bytes();
            out.copy_from_slice(word.get(..out.len()).ok_or(ReadError::Unmapped(addr))?);
            Ok(())
        }
    }

    fn chosen(words: &[(u64, u64)], key: u64) -> Option<ThreadSlot> {
        let memory = Words(words.iter().copied().collect());
        let threads = [Thread { state: Addr(0xaa0), fs_base: Addr(0x1000), native: 1 }];
        slots(key).into_iter().find(|slot| matches(&memory, *slot, &threads) == 1)
    }

    #[test]
    fn each_c_library_has_its_place() {
        let glibc = ThreadSlot { indirect: None, offset: 0x328 };
        assert_eq!(chosen(&[(0x1000 + 0x310 + 16 + 8, 0xaa0)], 1), Some(glibc));
        let musl = ThreadSlot { indirect: Some(0x80), offset: 8 };
        assert_eq!(chosen(&[(0x1080, 0x5000), (0x5008, 0xaa0)], 1), Some(musl));
        let old_musl = ThreadSlot { indirect: Some(0x88), offset: 8 };
        assert_eq!(chosen(&[(0x1088, 0x5000), (0x5008, 0xaa0)], 1), Some(old_musl));
        // Key 33: the second entry of the second block.
        let second = ThreadSlot { indirect: Some(0x518), offset: 24 };
        assert_eq!(chosen(&[(0x1518, 0x6000), (0x6018, 0xaa0)], 33), Some(second));
        assert_eq!(chosen(&[(0x1080, 0x5000), (0x5008, 0xbb0)], 1), None);
    }

    /// glibc's `struct pthread` of this very process: `specific[0]` points to the first block.
    #[test]
    fn the_first_block_of_the_running_c_library() {
        if !cfg!(target_env = "gnu") {
            println!("skipped: not built for glibc");
            return;
        }
        let memory =
            crate::target::memory::ProcessMemory::new(crate::units::Pid(std::process::id()));
        // SAFETY: has no preconditions.
        let fs_base = unsafe { libc::pthread_self() };
        assert_eq!(memory.word(Addr(fs_base + 0x510)), Ok(fs_base + 0x310));
    }
}
