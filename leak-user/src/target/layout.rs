//! Where CPython keeps what leaktrace reads, offsets in bytes. The rows are in `layouts.rs`.

/// Layout of one minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// `(3, 11)`.
    pub version: (u8, u8),
    /// Built without a GIL (`--disable-gil`)?
    pub free_threaded: bool,
    /// `PyObject` and what variable-sized objects add.
    pub object: ObjectLayout,
    /// `_PyRuntimeState`.
    pub runtime: RuntimeLayout,
    /// `PyInterpreterState`.
    pub interpreter: InterpreterLayout,
    /// `PyThreadState`.
    pub thread: ThreadLayout,
    /// `_PyInterpreterFrame`.
    pub frame: FrameLayout,
    /// `PyCodeObject`.
    pub code: CodeLayout,
    /// `PyUnicodeObject`'s data: of ASCII strings, of other compact ones, and the pointer of the rest.
    pub unicode: UnicodeLayout,
    /// `PyTypeObject`.
    pub types: TypeLayout,
    /// `PyDictKeysObject`.
    pub keys: KeysLayout,
    /// The state of the cyclic garbage collector.
    pub collector: CollectorLayout,
    /// pymalloc's sizes, as it may have been built.
    pub pools: &'static [PoolLayout],
    /// Types whose dead objects the interpreter keeps on free lists and hands out again without a call of
    /// the allocator, and of which a program can keep many.
    pub free_listed: &'static [&'static str],
}

/// `_PyRuntimeState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeLayout {
    /// `interpreters.head`.
    pub interpreters_head: u64,
    /// Where a thread finds its thread state.
    pub thread_state: StateSlot,
    /// `allocators.standard.raw`; `mem` and `obj` follow at +40 and +80. None (3.11 and before): statics,
    /// see [`super::allocators`].
    pub allocators: Option<u64>,
}

/// Where a thread finds its thread state, whether it holds the GIL or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateSlot {
    /// In the thread-specific slot of `autoTSSkey._key`, a u32 at this offset in the runtime;
    /// `_is_initialized`, an i32, lies 4 bytes before it (3.14 and before).
    Key(u64),
    /// In the thread-local variable that `PyGILState_GetThisThreadState` returns (3.15).
    ThreadLocal,
}

/// `PyInterpreterState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterpreterLayout {
    /// `next`.
    pub next: u64,
    /// `threads.head`.
    pub threads_head: u64,
    /// `id`, a signed word.
    pub id: u64,
    /// Who holds the GIL.
    pub gil: Gil,
    /// Where pymalloc's state is.
    pub obmalloc: Obmalloc,
}

/// Where it is said which thread state holds the GIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gil {
    /// `gilstate.tstate_current`, at this offset in the runtime: the holder, or NULL (3.11 and before).
    Current(u64),
    /// In the `struct _gil_runtime_state` that the interpreter points to: the holder is `last_holder` while
    /// `locked`, an i32 right after it, is 1 (3.12 and later).
    Pointer {
        /// `ceval.gil`, in the interpreter.
        at: u64,
        /// `last_holder`.
        last_holder: u64,
    },
}

/// Where pymalloc's state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obmalloc {
    /// Static variables of the module (3.11 and before).
    Statics,
    /// `struct _obmalloc_state` inside the interpreter, at this offset (3.12).
    Embedded(u64),
    /// A pointer to it, at this offset (3.13 and later).
    Pointer(u64),
}

/// `PyThreadState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLayout {
    /// `next`.
    pub next: u64,
    /// `interp`.
    pub interp: u64,
    /// `cframe` (3.11, 3.12); None: `current_frame` lies in the thread state.
    pub cframe: Option<u64>,
    /// `_PyCFrame.previous`, that of the C call before (3.11, 3.12).
    pub cframe_previous: Option<u64>,
    /// `current_frame`, in the cframe or in the thread state.
    pub current_frame: u64,
    /// `thread_id`: `pthread_t`, on x86-64 the thread's fs base.
    pub thread_id: u64,
    /// `native_thread_id`: the kernel's tid. None (3.10 and before): the C library knows it.
    pub native_thread_id: Option<u64>,
}

/// `_PyInterpreterFrame`, or `PyFrameObject` (3.10 and before). All that the kernel side reads, but [`Instr::Index`],
/// lies within its first [`leak_common::FRAME_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// `f_code` or `f_executable`; from 3.14 on the lowest three bits are a tag.
    pub code: u64,
    /// `previous` or `f_back`.
    pub previous: u64,
    /// Where it is in the code.
    pub instr: Instr,
    /// `owner`, one byte. None (3.10 and before): every frame is one of Python's.
    pub owner: Option<u64>,
    /// How it tells that its code was entered from C, by a call of the interpreter's loop of its own. A chain
    /// ends with such a frame: one that ends otherwise was read while the interpreter changed it, since a frame
    /// that is being called, or a generator's that yields, has no previous one for a moment.
    pub entry: Entry,
    /// Threads may run copies of the bytecode of their own (3.14 and later without a GIL).
    pub copies: Option<Copies>,
}

/// Copies of a code object's bytecode, one a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// `_PyInterpreterFrame.tlbc_index`, an i32: which one the frame runs; 0: the code object's own.
    pub index: u64,
    /// `PyCodeObject.co_tlbc`: points to their count, which is followed by a pointer to each.
    pub array: u64,
}

/// How a frame tells that C code called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Every frame has a call of the loop of its own (3.10 and before).
    Every {
        /// `f_executing` or `f_state`, one byte.
        state: u64,
        /// What it is while the frame executes. A generator's that yields has no previous one either.
        executing: u8,
    },
    /// `is_entry`, one byte (3.11).
    Flag(u64),
    /// A boundary lies before it (3.12 and later).
    Boundary,
}

/// Owners from this on are boundaries between C and Python (`FRAME_OWNED_BY_CSTACK` in 3.12 and 3.13,
/// `FRAME_OWNED_BY_INTERPRETER` later).
pub const OWNER_BOUNDARY: u8 = 3;

/// How a frame says where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instr {
    /// `prev_instr` or `instr_ptr`: a pointer into the code object.
    Pointer {
        /// Its place in the frame.
        at: u64,
        /// `PyCodeObject.co_code_adaptive`, where the bytecode begins.
        code_start: u64,
    },
    /// `f_lasti`, an i32, -1 before the first instruction (3.10 and before).
    Index {
        /// Its place in the frame.
        at: u64,
        /// Bytes of bytecode that one step of it stands for.
        bytes: u64,
    },
}

/// `PyCodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLayout {
    /// `co_firstlineno`, an i32.
    pub firstlineno: u64,
    /// `co_filename`.
    pub filename: u64,
    /// `co_qualname`, or `co_name` where there is none (3.10 and before).
    pub name: u64,
    /// `co_linetable` or `co_lnotab`: after the others.
    pub linetable: u64,
    /// `_co_firsttraceable`, an i32: the code unit before which a call has not begun (3.11 and later).
    pub first_traceable: Option<u64>,
    /// Its form.
    pub lines: Lines,
}

/// The form of a code object's table of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// `co_lnotab` (3.9 and before).
    Lnotab,
    /// `co_linetable` of 3.10.
    Pairs,
    /// `co_linetable` of 3.11 and later.
    Locations,
}

/// `PyUnicodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnicodeLayout {
    /// The state word, after the length and the hash.
    pub state: u64,
    /// The lowest of its bits that say of what kind the string is.
    pub kind: u32,
    /// Data of compact ASCII strings: `sizeof(PyASCIIObject)`.
    pub ascii_data: u64,
    /// Data of other compact strings, and the data pointer of those that are not compact.
    pub compact_data: u64,
}

/// `PyTypeObject` and what a heap type adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeLayout {
    /// `tp_name`: a C string; static types carry the module in it, heap types do not.
    pub name: u64,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_basicsize`, a signed word.
    pub basicsize: u64,
    /// `tp_itemsize`, a signed word.
    pub itemsize: u64,
    /// `tp_dict`.
    pub dict: u64,
    /// `ht_qualname`, in heap types.
    pub qualname: u64,
    /// The bits of `tp_flags` that put two managed words before an instance: `Py_TPFLAGS_MANAGED_DICT` (3.11),
    /// `Py_TPFLAGS_MANAGED_WEAKREF` (3.12).
    pub managed: u64,
}

/// `PyDictKeysObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysLayout {
    /// `dk_nentries`, a signed word.
    pub count: u64,
    /// `dk_indices`; the entries follow them.
    pub indices: u64,
    /// How large the index is.
    pub size: KeysSize,
}

/// How a `PyDictKeysObject` tells the size of its index and the form of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysSize {
    /// `dk_size`, a word at 8: slots of 1, 2, 4 or 8 bytes; entries of hash, key, value (3.10 and before).
    Slots,
    /// `dk_log2_index_bytes`, a byte at 9; `dk_kind`, a byte at 10: 0 for entries of hash, key, value, 1 for
    /// entries of key, value, 2 for those of keys that others' values share.
    Bytes,
}

/// `struct _gc_runtime_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectorLayout {
    /// Where it is.
    pub place: CollectorPlace,
    /// `enabled`, an i32.
    pub enabled: u64,
    /// Where the three `struct gc_generation` can be, the usual place first: builds differ.
    pub generations: &'static [u64],
    /// `permanent_generation`: what `gc.freeze()` has put aside.
    pub permanent: u64,
    /// What it has done.
    pub stats: CollectorStats,
    /// `collecting`, an i32.
    pub collecting: u64,
    /// `garbage`: a list.
    pub garbage: u64,
}

/// Where the collector's state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorPlace {
    /// In the runtime, one for all interpreters (3.8).
    Runtime(u64),
    /// In each interpreter.
    Interpreter(u64),
}

/// How the collector counts what it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorStats {
    /// `generation_stats`: a `struct gc_generation_stats` for each generation (3.14 and before).
    Array(u64),
    /// A pointer to a `struct gc_stats`, which has the latest of each in a ring (3.15).
    Rings(u64),
}

/// pymalloc's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLayout {
    /// `POOL_SIZE`.
    pub pool_size: u64,
    /// `ARENA_SIZE`.
    pub arena_size: u64,
}

/// `PyObject` and what variable-sized objects add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLayout {
    /// Its own size.
    pub head: u64,
    /// What precedes an object that the collector tracks: `PyGC_Head`, where there is one.
    pub gc_head: u64,
    /// How it counts who refers to it.
    pub references: References,
    /// `ob_type`.
    pub class: u64,
    /// `ob_size`; also the length of a string.
    pub size: u64,
    /// The bytes of a `bytes` object.
    pub bytes_data: u64,
}

/// How an object counts who refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    /// `ob_refcnt`, its first word (3.13 and before).
    One,
    /// `ob_refcnt`, an u32, which `ob_overflow` and `ob_flags` follow (3.14 and later).
    Flagged,
    /// Without a GIL: those of the thread that owns it, and those of the others.
    Split {
        /// `ob_ref_local`, an u32.
        local: u64,
        /// `ob_ref_shared`, above two bits of flags; may be negative.
        shared: u64,
    },
}

pub use super::layouts::{all, free_threaded, known_versions, layout};
