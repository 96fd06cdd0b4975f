//! Compiled code's frames of the threads that wait, put around those of Python.
//!
//! A thread that waits stands still: its registers are those that it entered the kernel with, and its stack does
//! not change. Whether it waited all the while is told by how often it was switched to and away. Of a thread that runs,
//! only the processor knows the registers, and nobody is stopped to ask.

use std::collections::HashMap;

use leak_common::{event::Registers, threads::ThreadsConfig};

use super::DumpError;
use crate::{
    probe::threads::ThreadsProbe,
    snapshot,
    symbolize::{
        merge::{Owners, PyStack},
        modules::Modules,
        native::{NativeFrame, NativeSymbols},
        stacks::Frame,
        unwind::{NativeStack, Unwinder},
    },
    target::{
        kernel,
        maps::Mapping,
        memory::{Memory, ReadError},
        namespaces,
        process::{self, Task},
        python::Interpreter,
    },
    units::{Addr, Pid, Tid},
};

/// Bytes of a stack that are copied: as much as is common for a main thread's whole stack.
const MAX_STACK: usize = 8 << 20;

/// Calls of one stack.
const MAX_CALLS: usize = 1 << 14;

/// They are copied so many bytes at a time.
const PIECE: usize = 64 << 10;

/// A page.
const PAGE: usize = 4 << 10;

/// A thread that waited when its registers were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// How often it was switched away and to before.
    switches: (u64, u64),
    registers: Registers,
}

/// Reads and names the frames of compiled code.
pub(super) struct Natives {
    pid: Pid,
    probe: ThreadsProbe,
    owners: Owners,
    modules: Modules,
    unwinder: Unwinder,
    symbols: NativeSymbols,
    /// As of the latest look at the threads.
    mappings: Vec<Mapping>,
}

impl Natives {
    /// Loads the program that reads registers.
    ///
    /// # Errors
    /// [`DumpError::Kernel`], [`DumpError::Probe`], [`DumpError::Within`].
    pub fn open(pid: Pid, python: &Interpreter) -> Result<Self, DumpError> {
        let id = namespaces::kernel_id(pid, &process::status(pid)?)?;
        if id.namespace.is_some() {
            return Err(DumpError::Within);
        }
        let task = kernel::task_layout()?.fields;
        let config = ThreadsConfig { process: id.tgid.into(), pid: task.pid, tgid: task.tgid };
        Ok(Self {
            pid,
            probe: ThreadsProbe::open(&config)?,
            owners: Owners::of_interpreter(python),
            modules: Modules::new(pid),
            unwinder: Unwinder::new(MAX_CALLS),
            symbols: NativeSymbols::default(),
            mappings: Vec::new(),
        })
    }

    /// Those of the threads that wait.
    ///
    /// # Errors
    /// [`DumpError::Probe`].
    pub fn waits<'a>(
        &mut self,
        tasks: impl Iterator<Item = &'a Task>,
    ) -> Result<HashMap<Tid, Wait>, DumpError> {
        let before = tasks.filter_map(|task| Some((task.tid, self.switches(task.tid)?)));
        let before: Vec<(Tid, (u64, u64))> = before.collect();
        let registers = self.probe.registers()?;
        self.mappings = process::mappings(self.pid)?;
        let wait =
            |(tid, switches)| Some((tid, Wait { switches, registers: *registers.get(&tid)? }));
        Ok(before.into_iter().filter_map(wait).collect())
    }

    /// A waiting thread's stack, if it has waited until all of it was read, and until now.
    pub fn stack(&mut self, memory: &impl Memory, tid: Tid, wait: Wait) -> Option<NativeStack> {
        let top = Addr(wait.registers.sp);
        let bytes = copy(memory, top, end_of(&self.mappings, top)?).ok()?;
        let waited = self.switches(tid) == Some(wait.switches);
        waited.then(|| self.unwinder.unwind(&mut self.modules, wait.registers, &bytes))
    }

    /// The frames of Python's with those of compiled code around them.
    pub fn merged(&self, native: &NativeStack, python: PyStack<'_>) -> Vec<Frame> {
        self.owners.whole(native, python)
    }

    /// Names frames.
    pub fn shown(&mut self, frames: &[Frame]) -> Vec<snapshot::Frame> {
        let calls: Vec<Addr> = frames.iter().filter_map(Frame::native).collect();
        let mut named = self.symbols.resolve(&mut self.modules, &calls).into_iter();
        let mut shown = Vec::new();
        for frame in frames {
            match frame {
                Frame::Python(frame) => shown.push(frame.shown()),
                Frame::Native(_) => {
                    shown.extend(named.next().iter().flatten().map(NativeFrame::shown));
                }
            }
        }
        shown
    }

    /// How often a thread was switched away and to; None while it runs.
    fn switches(&self, tid: Tid) -> Option<(u64, u64)> {
        process::switches_of_waiting(self.pid, tid)
    }
}

/// Where the memory of a stack ends: what is mapped without a file, without a gap. The kernel may keep a stack in
/// several mappings.
fn end_of(mappings: &[Mapping], top: Addr) -> Option<Addr> {
    let within = |mapping: &Mapping| (mapping.start..mapping.end).contains(&top);
    let at = mappings.iter().position(within)?;
    let (stack, further) = mappings.get(at..)?.split_first()?;
    let anonymous = |mapping: &&Mapping| mapping.file.is_none() && mapping.writable;
    Some(
        further
            .iter()
            .take_while(anonymous)
            .fold(stack.end, |end, mapping| if mapping.start == end { mapping.end } else { end }),
    )
}

/// From the stack pointer up to the end of the stack; less where it ends earlier: at a page that guards the next
/// stack in the same mapping.
fn copy(memory: &impl Memory, top: Addr, end: Addr) -> Result<Vec<u8>, ReadError> {
    let length = usize::try_from(end.0 - top.0).unwrap_or(MAX_STACK).min(MAX_STACK);
    let mut bytes = Vec::new();
    let mut step = PIECE;
    while bytes.len() < length {
        let known = bytes.len();
        let at = top.offset(known as u64);
        // To the end of a page: what follows may not be there.
        bytes.resize(length.min(known + step - (at.0 % step as u64) as usize), 0);
        match memory.read(at, &mut bytes[known..]) {
            Ok(()) => {}
            Err(ReadError::Unmapped(_)) => {
                bytes.truncate(known);
                if step == PAGE {
                    break;
                }
                step = PAGE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::maps::FileId;

    fn mapping(start: u64, end: u64, file: bool) -> Mapping {
        Mapping {
            start: Addr(start),
            end: Addr(end),
            readable: true,
            writable: true,
            executable: false,
            offset: 0,
            file: file.then_some(FileId { device: (8, 1), inode: 7 }),
            path: String::new(),
            deleted: false,
        }
    }

    #[test]
    fn a_stack_may_lie_in_several_mappings() {
        let mut mappings = vec![
            mapping(0x1000, 0x2000, true),
            mapping(0x3000, 0x5000, false),
            mapping(0x5000, 0x6000, false),
            mapping(0x6000, 0x7000, true),
        ];
        assert_eq!(end_of(&mappings, Addr(0x3800)), Some(Addr(0x6000)));
        assert_eq!(end_of(&mappings, Addr(0x2800)), None);
        // A gap; another thread's guard.
        mappings[2] = mapping(0x5800, 0x6000, false);
        assert_eq!(end_of(&mappings, Addr(0x3800)), Some(Addr(0x5000)));
        mappings[2] = Mapping { writable: false, ..mapping(0x5000, 0x6000, false) };
        assert_eq!(end_of(&mappings, Addr(0x3800)), Some(Addr(0x5000)));
    }

    #[test]
    fn a_copy_ends_where_the_memory_does() {
        use crate::heap::testing::FakeMemory;
        let mut memory = FakeMemory::default();
        memory.map(0x10_0000, 3 * PIECE);
        let copied = |end| copy(&memory, Addr(0x10_0010), Addr(end)).unwrap().len();
        assert_eq!(copied(0x10_0000 + 3 * PIECE as u64), 3 * PIECE - 0x10);
        assert_eq!(copied(0x10_0020), 0x10);
        // A page of a guard, or unmapped since: all before it.
        assert_eq!(copied(0x10_0000 + 9 * PIECE as u64), 3 * PIECE - 0x10);
        memory.map(0x20_0000, 3 * PAGE);
        let guarded = copy(&memory, Addr(0x20_0010), Addr(0x20_0000 + 9 * PIECE as u64));
        assert_eq!(guarded.unwrap().len(), 3 * PAGE - 0x10);
    }
}
