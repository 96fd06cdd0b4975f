//! The interpreters of a process and their threads' states, by the lists that the runtime keeps.

use std::collections::HashSet;

use super::layout::{Gil, Layout};
use super::memory::{Memory, ReadError};
use crate::units::Addr;

/// Interpreters and threads followed.
const MAX_LIST: usize = 1 << 16;

/// A `PyThreadState` with a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// Where it is.
    pub state: Addr,
    /// `thread_id`: on x86-64 the fs base of its thread.
    pub fs_base: Addr,
    /// `native_thread_id`, as the process itself numbers its threads; 0 where it is not known.
    pub native: u32,
}

/// The list of `PyInterpreterState`s, from its head on; the main one is the oldest, hence the last.
///
/// # Errors
/// What is wrong with the list.
pub fn interpreters(
    memory: &impl Memory,
    layout: &Layout,
    runtime: Addr,
) -> Result<Vec<Addr>, &'static str> {
    let unreadable = |_| "the list of interpreters can't be read";
    let mut interpreter =
        memory.pointer(runtime.offset(layout.runtime.interpreters_head)).map_err(unreadable)?;
    let mut found = Vec::new();
    while !interpreter.is_null() {
        if found.len() == MAX_LIST {
            return Err("the list of interpreters does not end");
        }
        found.push(interpreter);
        interpreter =
            memory.pointer(interpreter.offset(layout.interpreter.next)).map_err(unreadable)?;
    }
    Ok(found)
}

/// `PyInterpreterState.id`.
///
/// # Errors
/// [`ReadError`].
pub fn interpreter_id(
    memory: &impl Memory,
    layout: &Layout,
    interpreter: Addr,
) -> Result<i64, ReadError> {
    memory.word(interpreter.offset(layout.interpreter.id)).map(u64::cast_signed)
}

/// The thread state that holds the GIL of an interpreter at this moment, if one does. Interpreters may
/// share a GIL.
///
/// # Errors
/// [`ReadError`].
pub fn gil_holder(
    memory: &impl Memory,
    layout: &Layout,
    runtime: Addr,
    interpreter: Addr,
) -> Result<Option<Addr>, ReadError> {
    let holder = match layout.interpreter.gil {
        Gil::Current(at) => memory.pointer(runtime.offset(at))?,
        Gil::Pointer { at, last_holder } => {
            let gil = memory.pointer(interpreter.offset(at))?;
            match memory.half(gil.offset(last_holder + 8))? {
                1 => memory.pointer(gil.offset(last_holder))?,
                // 0: free; -1: not made yet.
                _ => Addr(0),
            }
        }
    };
    Ok(Some(holder).filter(|holder| !holder.is_null()))
}

/// Walks an interpreter's list of thread states; every one must point back to its interpreter. Those
/// without a thread are left out: a `thread_id` must be a thread control block, whose first word is its
/// own address. `tasks` are the process's threads as the process numbers them.
///
/// # Errors
/// What is wrong with the list.
pub fn threads(
    memory: &impl Memory,
    layout: &Layout,
    interpreter: Addr,
    tasks: &HashSet<u32>,
) -> Result<Vec<Thread>, &'static str> {
    let offsets = layout.thread;
    let unreadable = |_| "the list of thread states can't be read";
    let mut state =
        memory.pointer(interpreter.offset(layout.interpreter.threads_head)).map_err(unreadable)?;
    let mut found = Vec::new();
    let mut seen = 0;
    while !state.is_null() {
        seen += 1;
        if seen > MAX_LIST {
            return Err("the list of thread states does not end");
        }
        let read = |offset| memory.pointer(state.offset(offset)).map_err(unreadable);
        if read(offsets.interp)? != interpreter {
            return Err("a thread state does not point back to its interpreter");
        }
        let fs_base = read(offsets.thread_id)?;
        // A state whose thread has not begun, or has ended, has no control block.
        if !fs_base.is_null() && memory.pointer(fs_base) == Ok(fs_base) {
            let native = match offsets.native_thread_id {
                Some(at) => u32::try_from(read(at)?.0).unwrap_or(0),
                None => libc_thread_id(memory, fs_base, tasks).unwrap_or(0),
            };
            found.push(Thread { state, fs_base, native });
        }
        state = read(offsets.next)?;
    }
    Ok(found)
}

/// The thread's id in its control block: `struct pthread.tid`, glibc 2.31 to 2.43 and musl.
fn libc_thread_id(memory: &impl Memory, fs_base: Addr, tasks: &HashSet<u32>) -> Option<u32> {
    const PLACES: [u64; 2] = [0x2d0, 0x30];
    PLACES
        .into_iter()
        .filter_map(|at| memory.half(fs_base.offset(at)).ok())
        .find(|tid| tasks.contains(tid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::FakeMemory;
    use crate::target::layout::{known_versions, layout};

    const RUNTIME: u64 = 0x10_0000;
    const MAIN: u64 = 0x20_0000;

    /// A runtime and an interpreter of zeros.
    fn memory() -> FakeMemory {
        let mut memory = FakeMemory::default();
        memory.map(RUNTIME, 0x4000);
        memory.map(MAIN, 0x8000);
        memory
    }

    #[test]
    fn the_holder_is_named_only_while_the_gil_is_held() {
        for layout in known_versions().filter_map(layout) {
            let mut memory = memory();
            let holder =
                |memory: &FakeMemory| gil_holder(memory, layout, Addr(RUNTIME), Addr(MAIN));
            match layout.interpreter.gil {
                Gil::Current(at) => {
                    assert_eq!(holder(&memory), Ok(None));
                    memory.put(RUNTIME + at, 0x7000);
                }
                Gil::Pointer { at, last_holder } => {
                    memory.map(0x30_0000, 64);
                    memory.put(MAIN + at, 0x30_0000);
                    memory.put(0x30_0000 + last_holder, 0x7000);
                    assert_eq!(holder(&memory), Ok(None));
                    memory.put_half(0x30_0000 + last_holder + 8, u32::MAX);
                    assert_eq!(holder(&memory), Ok(None));
                    memory.put_half(0x30_0000 + last_holder + 8, 1);
                }
            }
            assert_eq!(holder(&memory), Ok(Some(Addr(0x7000))), "{:?}", layout.version);
        }
    }

    #[test]
    fn lists_that_run_in_a_circle_end() {
        for layout in known_versions().filter_map(layout) {
            let mut memory = memory();
            memory.put(RUNTIME + layout.runtime.interpreters_head, MAIN);
            memory.put(MAIN + layout.interpreter.next, MAIN);
            assert!(interpreters(&memory, layout, Addr(RUNTIME)).is_err());
            memory.put(MAIN + layout.interpreter.next, 0);
            assert_eq!(interpreters(&memory, layout, Addr(RUNTIME)), Ok(vec![Addr(MAIN)]));

            memory.map(0x40_0000, 0x400);
            memory.put(MAIN + layout.interpreter.threads_head, 0x40_0000);
            memory.put(0x40_0000 + layout.thread.interp, MAIN);
            // Neither states with a thread nor those without run for ever.
            for thread_id in [0, 0x50_0000] {
                memory.map(0x50_0000, 0x400);
                memory.put(0x50_0000, 0x50_0000);
                memory.put(0x40_0000 + layout.thread.thread_id, thread_id);
                memory.put(0x40_0000 + layout.thread.next, 0x40_0000);
                let walked = threads(&memory, layout, Addr(MAIN), &HashSet::new());
                assert_eq!(walked, Err("the list of thread states does not end"));
                memory.put(0x40_0000 + layout.thread.next, 0);
                let walked = threads(&memory, layout, Addr(MAIN), &HashSet::new()).unwrap();
                assert_eq!(walked.len(), usize::from(thread_id != 0));
            }
            memory.put(0x40_0000 + layout.thread.interp, MAIN + 8);
            assert!(threads(&memory, layout, Addr(MAIN), &HashSet::new()).is_err());
        }
    }
}
