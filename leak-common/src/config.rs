//! What the user side tells the programs before they are loaded ([`Config`], a global that the
//! verifier sees as constant) and while they run ([`Gate`], a map).

/// Set once, before loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The target: its thread group id in the initial pid namespace or in `pid_namespace`.
    pub tgid: u64,
    /// `task_struct.thread.fsbase`, from the kernel's BTF.
    pub fsbase_offset: u64,
    /// Where a thread keeps its Python thread state, and how frames are laid out.
    pub python: PythonConfig,
    /// Where pymalloc keeps its pools.
    pub pymalloc: PymallocConfig,
    /// Which native stacks are taken: one of [`native`].
    pub native: u64,
    /// Where the target's ids are those of a pid namespace that is not the initial one: which.
    pub pid_namespace: PidNamespace,
    /// Where the heap's own code lies; mappings made from there are not recorded. All zero: nowhere.
    pub heap_code: Range,
    /// `task_struct.pid`, from the kernel's BTF.
    pub task_pid: u64,
    /// `task_struct.tgid`.
    pub task_tgid: u64,
}

/// A pid namespace, as `stat` of `/proc/PID/ns/pid` tells it. All zero: the initial one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PidNamespace {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// A stretch of the target's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// The first after it.
    pub end: u64,
}

/// How to walk Python frames; offsets in bytes. All zero: no Python frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PythonConfig {
    /// 1 where frames can be walked.
    pub enabled: u64,
    /// Where not 0: the thread-specific slots hang from the pointer at fsbase + this (musl).
    pub tss_indirect: u64,
    /// The slot of the thread state, from fsbase (or from that pointer).
    pub tss_offset: u64,
    /// `PyThreadState.cframe` (3.11, 3.12); 0 where the thread state holds the frame itself.
    pub cframe: u64,
    /// `current_frame` (before 3.11 `frame`), in the cframe or the thread state.
    pub current_frame: u64,
    /// `_PyInterpreterFrame`, before 3.11 `PyFrameObject`: code object.
    pub frame_code: u64,
    /// Previous frame.
    pub frame_previous: u64,
    /// Instruction pointer; before 3.11 the index of the instruction, an i32.
    pub frame_instr: u64,
    /// Where not 0: `frame_instr` is an index, and one step of it stands for so many bytes.
    pub instr_bytes: u64,
    /// Owner, one byte.
    pub frame_owner: u64,
    /// One byte, set in frames that were entered from C (3.11). 0: a boundary lies before them;
    /// [`EVERY_FRAME`]: all are.
    pub frame_is_entry: u64,
    /// Owners from this on are boundaries between C and Python, not frames.
    pub owner_boundary: u64,
    /// `PyCodeObject.co_code_adaptive`, where the bytecode begins.
    pub code_start: u64,
    /// Where not 0: an i32 in the frame that says which copy of the bytecode it runs; 0: the code object's own.
    pub copy_index: u64,
    /// `PyCodeObject.co_tlbc`, which points to the count of copies, and pointers to them.
    pub copies: u64,
}

/// Every Python frame was entered from C (3.10 and before).
pub const EVERY_FRAME: u64 = u64::MAX;

/// Which native stacks are taken.
pub mod native {
    /// None.
    pub const NONE: u64 = 0;
    /// The top of those that allocate from the C library or map memory.
    pub const TOP: u64 = 1;
    /// Whole, also of those that allocate from pymalloc.
    pub const WHOLE: u64 = 2;
}

/// How the block that pymalloc will hand out next is found. All zero: no prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PymallocConfig {
    /// `usedpools` in the target: two pointers a size class.
    pub usedpools: u64,
    /// `usable_arenas` in the target; 0 where it is not known.
    pub usable_arenas: u64,
    /// The variable `arenas` in the target.
    pub arenas: u64,
    /// `POOL_SIZE`.
    pub pool_size: u64,
    /// `ARENA_SIZE`.
    pub arena_size: u64,
    /// 1 where `_PyObject_Realloc` carries its own copy of the allocation path, so that no probe on
    /// `_PyObject_Malloc` sees it.
    pub realloc_inlines_malloc: u64,
    /// 1 where it carries its own copy of the path of `_PyObject_Free`.
    pub realloc_inlines_free: u64,
}

/// A breakpoint so many bytes behind the head of a size class's list of pools, within the head's word, is one on writes.
pub const HEAD_WRITES: u64 = 4;

/// Set for every burst; the kernel may close it early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Gate {
    /// The burst that is open; 0: closed.
    pub burst: u64,
    /// How much of the target's time it may spend.
    pub limit_ns: u64,
    /// How much it has spent.
    pub spent_ns: u64,
    /// What one hit costs the target beside the program's own time, in ns.
    pub trap_ns: u64,
    /// The same for a return probe.
    pub return_trap_ns: u64,
    /// The same for a hardware breakpoint.
    pub breakpoint_trap_ns: u64,
    /// 1: when the kernel closes the gate, it notes what the surviving blocks hold
    /// ([`crate::keys::LiveBlock::content`]).
    pub note_content: u64,
    /// Changed when a code object's address was found reused: makes all stack ids new.
    pub generation: u64,
    /// So many hits are passed over before recording begins.
    pub skip: u64,
    /// pymalloc's size classes that probes on its functions record, a bit each, class 1 the lowest; the rest is
    /// counted alone.
    pub classes: u64,
    /// Of 2^32 blocks that probes on pymalloc's functions see freed, about so many are told, with what they held
    /// ([`crate::event::FreedRecord`]).
    pub told: u64,
}
