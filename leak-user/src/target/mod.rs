//! What is learned of the process before anything is attached.
//!
//! [`discover`] reads `/proc` and the target's memory, and returns a [`Target`] in which every
//! address has been validated against the live process.

pub mod allocators;
pub mod btf;
mod debug_offsets;
pub mod decode;
pub mod elf;
pub mod elsewhere;
pub mod error;
pub mod files;
mod frame_table;
pub mod frames;
pub mod freeze;
pub mod kernel;
pub mod layout;
mod layouts;
mod link_map;
pub mod malloc;
pub mod maps;
pub mod memory;
pub mod namespaces;
pub mod privileges;
pub mod process;
pub mod pymalloc;
pub mod python;
pub mod threads;
pub mod tss;

#[cfg(test)]
mod live;

use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::units::{Addr, Pid};
pub use error::TargetError;
use layout::Layout;
use memory::ProcessMemory;
use namespaces::KernelId;

/// pymalloc's state is looked for so many times more, so far apart, before it is given up.
const TURNS: u32 = 20;
/// See [`TURNS`].
const TURN: Duration = Duration::from_millis(50);

/// Learns all that is needed of a process, and checks it against the live process.
///
/// Reads only; the target is neither stopped nor changed. Takes some tens of milliseconds.
///
/// # Errors
/// [`TargetError`]: no such process, not CPython, a version or build that is not supported, or no
/// permission.
pub fn discover(pid: Pid) -> Result<Target, TargetError> {
    let kernel_id = namespaces::kernel_id(pid, &process::status(pid)?)?;
    let Process { start_ticks, exe, cmdline, memory, files, interpreter, .. } = open(pid)?;
    let module = interpreter.as_ref().ok().map(|interpreter| &*interpreter.file);
    let heap = malloc::find(&files, &memory, module);
    let python = match interpreter {
        Ok(interpreter) => Ok(learn(pid, &files, memory, interpreter)?),
        Err(unknown) => Err(unknown),
    };
    if process::start_ticks(pid)? != start_ticks {
        return Err(TargetError::NoSuchProcess { pid });
    }
    Ok(Target { pid, kernel_id, start_ticks, exe, cmdline, memory, python, heap })
}

/// All that is needed of an interpreter.
fn learn(
    pid: Pid,
    files: &files::Files,
    memory: ProcessMemory,
    interpreter: python::Interpreter,
) -> Result<Python, TargetError> {
    let thread_slot = tss::find(pid, &memory, &interpreter)?;
    let (allocators, pymalloc) = allocation(pid, files, memory, &interpreter)?;
    Ok(Python {
        interpreter_loop: interpreter.interpreter_loop(),
        version: interpreter.version,
        layout: interpreter.layout,
        module: interpreter.file.module.clone(),
        runtime: interpreter.runtime,
        type_type: interpreter.type_type,
        code_type: interpreter.code_type,
        free_listed: interpreter.free_listed,
        thread_slot,
        allocators,
        pymalloc,
    })
}

/// A process and its interpreter, before anything is learnt of its allocators.
#[derive(Debug)]
pub struct Process {
    /// See [`Target`].
    pub pid: Pid,
    /// See [`Target`].
    pub start_ticks: u64,
    /// See [`Target`].
    pub exe: String,
    /// See [`Target`].
    pub cmdline: Vec<String>,
    /// See [`Target`].
    pub memory: ProcessMemory,
    /// What it has mapped.
    pub files: files::Files,
    /// The interpreter, validated, or why its structures are not known.
    pub interpreter: Result<python::Interpreter, TargetError>,
}

/// Finds a process's interpreter: enough to read its threads' stacks.
///
/// # Errors
/// As [`discover`].
pub fn open(pid: Pid) -> Result<Process, TargetError> {
    process::status(pid)?;
    let start_ticks = process::start_ticks(pid)?;
    let Some(exe) = process::exe(pid)? else {
        return Err(TargetError::NotPython { pid, exe: "a kernel thread".to_owned() });
    };
    let cmdline = process::cmdline(pid)?;
    let memory = ProcessMemory::new(pid);
    let files = files::Files::new(pid, process::mappings(pid)?);
    let interpreter = match python::find(pid, &files, memory, &exe) {
        Err(error) if !error.is_unknown_python() => return Err(error),
        found => found,
    };
    Ok(Process { pid, start_ticks, exe, cmdline, memory, files, interpreter })
}

/// The allocators and, where it is in use, pymalloc's state.
fn allocation(
    pid: Pid,
    files: &files::Files,
    memory: ProcessMemory,
    interpreter: &python::Interpreter,
) -> Result<(Allocators, Option<Pymalloc>), TargetError> {
    let mut allocators = allocators::find(pid, files, &memory, interpreter)?;
    let malloc = allocators.object.malloc.addr;
    let own = interpreter.file.module.file_offset(malloc).is_some();
    // Without a GIL, objects are mimalloc's, always.
    if allocators.kind == AllocatorKind::Malloc || !own || interpreter.layout.free_threaded {
        return Ok((allocators, None));
    }
    // mimalloc has different functions for the two domains; only pymalloc serves both with one.
    let is_due = allocators.object == allocators.memory;
    let find = || pymalloc::find(pid, &memory, interpreter, malloc);
    let mut pymalloc = find()?;
    // What waits for a processor in the midst of an allocation may have links that lead nowhere until it runs on.
    for _ in 0..TURNS {
        if pymalloc.is_some() || !is_due {
            break;
        }
        thread::sleep(TURN);
        pymalloc = find()?;
    }
    match pymalloc {
        Some(_) => allocators.kind = AllocatorKind::Pymalloc,
        None if is_due => return Err(TargetError::inconsistent("pymalloc's state was not found")),
        None => {}
    }
    Ok((allocators, pymalloc))
}

/// All that is known of the process.
#[derive(Debug)]
pub struct Target {
    /// Its id, in this process's pid namespace.
    pub pid: Pid,
    /// By which id the kernel's programs know it.
    pub kernel_id: KernelId,
    /// When it started, clock ticks since boot: tells it from a later process with the same id.
    pub start_ticks: u64,
    /// The executable's path as the target sees it.
    pub exe: String,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// Its memory.
    pub memory: ProcessMemory,
    /// The interpreter, or why its structures are not known: then its lines and objects are not seen, its
    /// growth is.
    pub python: Result<Python, TargetError>,
    /// The heap behind `malloc`, absent where none was found (a static executable without its symbols).
    pub heap: Option<Heap>,
}

impl Target {
    /// Are the blocks of malloc chunks of glibc's, all of them?
    #[must_use]
    pub fn blocks_are_glibcs(&self) -> bool {
        // Where Python's tables name an allocator of their own, its blocks are among them.
        let own = |python: &Python| python.allocators.kind == AllocatorKind::Other;
        !self.python.as_ref().is_ok_and(own) && self.heap.as_ref().is_none_or(|heap| heap.glibc)
    }

    /// pymalloc's state, where it is in use and known.
    #[must_use]
    pub fn pymalloc(&self) -> Option<Pymalloc> {
        self.python.as_ref().ok()?.pymalloc
    }

    /// The interpreter's version: `3.11.7`.
    #[must_use]
    pub fn version(&self) -> &str {
        match &self.python {
            Ok(python) => &python.version,
            Err(unknown) => unknown.version(),
        }
    }
}

/// The interpreter in the process.
#[derive(Debug, Clone)]
pub struct Python {
    /// `3.11.7`.
    pub version: String,
    /// Where its structures are.
    pub layout: &'static Layout,
    /// The module that holds it: executable or libpython.
    pub module: Module,
    /// The code of the interpreter's loop (`_PyEval_EvalFrameDefault`), in one part or more.
    pub interpreter_loop: Vec<Range<Addr>>,
    /// `_PyRuntime`.
    pub runtime: Addr,
    /// `PyType_Type`, `PyCode_Type`: what the `ob_type` of types and of code objects points to.
    pub type_type: Addr,
    /// See `type_type`.
    pub code_type: Addr,
    /// The types whose dead objects it hands out again without a call of the allocator.
    pub free_listed: Vec<Addr>,
    /// Where a thread finds its thread state.
    pub thread_slot: ThreadSlot,
    /// Which allocators are installed.
    pub allocators: Allocators,
    /// pymalloc's state, where pymalloc is in use.
    pub pymalloc: Option<Pymalloc>,
}

/// Where a thread's Python thread state hangs from its fs base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadSlot {
    /// None (glibc): the slot is at fs base + `offset`. Some (musl): follow the pointer at fs base +
    /// this first.
    pub indirect: Option<u64>,
    /// Offset of the slot.
    pub offset: u64,
}

/// A mapped ELF file.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its path as the target sees it, for messages.
    pub path: String,
    /// A path by which this process can open the same file (`/proc/PID/map_files/…` or
    /// `/proc/PID/root/…`).
    pub open_path: PathBuf,
    /// Added to an ELF address to get the address in the target.
    pub bias: u64,
    /// Its PT_LOAD segments.
    pub segments: Vec<Segment>,
}

/// A PT_LOAD segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// `p_vaddr`.
    pub address: u64,
    /// `p_memsz`.
    pub memory_size: u64,
    /// `p_offset`.
    pub file_offset: u64,
    /// `p_filesz`.
    pub file_size: u64,
    /// PF_W.
    pub writable: bool,
    /// PF_X.
    pub executable: bool,
}

impl Module {
    /// The offset in the file of an address in the target: what a uprobe is attached at.
    #[must_use]
    pub fn file_offset(&self, addr: Addr) -> Option<u64> {
        let vaddr = addr.0.wrapping_sub(self.bias);
        self.segments.iter().find_map(|s| {
            let into = vaddr.checked_sub(s.address)?;
            (into < s.file_size).then(|| s.file_offset + into)
        })
    }
}

/// A function of an allocator, at an address in the target and in the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Where it starts, in the target.
    pub addr: Addr,
    /// The file to attach to.
    pub open_path: PathBuf,
    /// `addr` as an offset in that file.
    pub file_offset: u64,
    /// Its first bytes (up to 128, fewer where the next function or the end is nearer).
    pub code: Vec<u8>,
}

/// Four functions of one allocator table entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatorFunctions {
    /// `malloc(ctx, size)`.
    pub malloc: Function,
    /// `calloc(ctx, n, size)`.
    pub calloc: Function,
    /// `realloc(ctx, block, size)`.
    pub realloc: Function,
    /// `free(ctx, block)`.
    pub free: Function,
}

/// What the live tables hold.
#[derive(Debug, Clone)]
pub struct Allocators {
    /// The kind, as a user knows it.
    pub kind: AllocatorKind,
    /// The functions behind the `obj` domain, after following tracemalloc's and the debug hooks'
    /// contexts.
    pub object: AllocatorFunctions,
    /// Behind `mem`; equal to `object` by default.
    pub memory: AllocatorFunctions,
    /// Behind `raw`: these end in the C library.
    pub raw: AllocatorFunctions,
    /// Hooks found in front of them, as words for the report (`tracemalloc`, `debug hooks`).
    pub hooks: Vec<&'static str>,
    /// Where the tables are, and what they held.
    tables: allocators::Tables,
    seen: allocators::Entries,
}

/// Which allocator serves small objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocatorKind {
    /// The default.
    Pymalloc,
    /// `PYTHONMALLOC=malloc`: everything goes to the C library.
    Malloc,
    /// mimalloc (always without a GIL, else by `PYTHONMALLOC=mimalloc`), or an extension's functions.
    Other,
}

/// Where pymalloc keeps its state (main interpreter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pymalloc {
    /// `usedpools`: 64 pointers.
    pub usedpools: Addr,
    /// The variable that points to the array of `arena_object`s.
    pub arenas: Addr,
    /// The variable that holds the array's length, a u32.
    pub maxarenas: Addr,
    /// The variable `usable_arenas`, where it was found.
    pub usable_arenas: Option<Addr>,
    /// 16 KiB since 3.10.
    pub pool_size: u64,
    /// 1 MiB since 3.10.
    pub arena_size: u64,
}

/// The heap behind `malloc`.
#[derive(Debug, Clone)]
pub struct Heap {
    /// The file, as the target sees it.
    pub path: String,
    /// The same file.
    pub module: Module,
    /// `glibc 2.36`, `musl`, `jemalloc`, …
    pub name: String,
    /// glibc's chunk headers tell whether a block lives; of others only its content tells, and what probes
    /// see.
    pub glibc: bool,
    /// Where blocks come and go; two names of one function are given once.
    pub entry_points: Vec<EntryPoint>,
    /// Its code, where mappings made from there are its own: what they hold is counted as its blocks. None
    /// for glibc, which extends the break, and gives the largest blocks mappings of their own.
    pub code: Option<AddressRange>,
}

/// A function through which blocks come or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPoint {
    /// `posix_memalign`.
    pub name: &'static str,
    /// What its arguments mean.
    pub role: Role,
    /// Where it is.
    pub function: Function,
}

/// What the arguments of an entry point mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `(size, …)`, returns the block.
    Malloc,
    /// `(n, size)`, returns the block.
    Calloc,
    /// `(block, size)`, returns the block.
    Realloc,
    /// `(alignment, size)`, returns the block.
    Memalign,
    /// `(&block, alignment, size)`, returns 0.
    PosixMemalign,
    /// `(block, …)`.
    Free,
}

/// A stretch of the target's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The first.
    pub start: Addr,
    /// The first after it.
    pub end: Addr,
}
