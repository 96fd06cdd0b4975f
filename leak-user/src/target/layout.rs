//! Where CPython keeps what leaktrace reads: one row a minor version, offsets in bytes.
//!
//! Sources: DWARF of upstream builds 3.11.7, 3.12.1, 3.13.0 and Debian's 3.11.2 and 3.13.5; each row
//! was compared with what live interpreters say of themselves. Within a minor version none of these
//! moved; [`super::python`] validates them on every target all the same.

/// Layout of one minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// `(3, 11)`.
    pub version: (u8, u8),
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
}

/// `_PyRuntimeState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeLayout {
    /// `interpreters.head`.
    pub interpreters_head: u64,
    /// `autoTSSkey._key`, a u32; `_is_initialized`, an i32, lies 4 bytes before it.
    pub auto_tss_key: u64,
    /// `allocators.standard.raw`; `mem` and `obj` follow at +40 and +80. None (3.11): statics, see
    /// [`super::allocators`].
    pub allocators: Option<u64>,
    /// `allocators.obj_arena`.
    pub arena_allocator: Option<u64>,
}

/// `PyInterpreterState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterpreterLayout {
    /// `next`.
    pub next: u64,
    /// `threads.head`.
    pub threads_head: u64,
    /// Where pymalloc's state is.
    pub obmalloc: Obmalloc,
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
    /// `current_frame`, in the cframe or in the thread state.
    pub current_frame: u64,
    /// `thread_id`: `pthread_t`, on x86-64 the thread's fs base.
    pub thread_id: u64,
    /// `native_thread_id`: the kernel's tid.
    pub native_thread_id: u64,
}

/// `_PyInterpreterFrame`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// `f_code` or `f_executable`.
    pub code: u64,
    /// `previous`.
    pub previous: u64,
    /// `prev_instr` or `instr_ptr`.
    pub instr: u64,
    /// `owner`, one byte.
    pub owner: u64,
    /// Owners from this on are boundaries between C and Python.
    pub owner_boundary: u8,
}

/// `PyCodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLayout {
    /// `co_firstlineno`, an i32.
    pub firstlineno: u64,
    /// `co_filename`.
    pub filename: u64,
    /// `co_qualname`.
    pub qualname: u64,
    /// `co_linetable`.
    pub linetable: u64,
    /// `co_code_adaptive`.
    pub code_adaptive: u64,
}

/// `PyUnicodeObject`; the state word is at 32 in all versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnicodeLayout {
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
}

/// `PyObject`: the same in all builds with a GIL.
pub mod object {
    /// `ob_type`.
    pub const TYPE: u64 = 8;
    /// `ob_size` of variable-sized objects.
    pub const SIZE: u64 = 16;
    /// The bytes of a `bytes` object.
    pub const BYTES_DATA: u64 = 32;
}

const TYPE_3_11: TypeLayout =
    TypeLayout { name: 24, flags: 168, basicsize: 32, itemsize: 40, dict: 264, qualname: 864 };

const LAYOUTS: [Layout; 3] = [
    Layout {
        version: (3, 11),
        runtime: RuntimeLayout {
            interpreters_head: 40,
            auto_tss_key: 596,
            allocators: None,
            arena_allocator: None,
        },
        interpreter: InterpreterLayout { next: 0, threads_head: 16, obmalloc: Obmalloc::Statics },
        thread: ThreadLayout {
            next: 8,
            interp: 16,
            cframe: Some(56),
            current_frame: 8,
            thread_id: 152,
            native_thread_id: 160,
        },
        frame: FrameLayout { code: 32, previous: 48, instr: 56, owner: 69, owner_boundary: 3 },
        code: CodeLayout {
            firstlineno: 72,
            filename: 112,
            qualname: 128,
            linetable: 136,
            code_adaptive: 184,
        },
        unicode: UnicodeLayout { ascii_data: 48, compact_data: 72 },
        types: TYPE_3_11,
    },
    Layout {
        version: (3, 12),
        runtime: RuntimeLayout {
            interpreters_head: 40,
            auto_tss_key: 1548,
            allocators: Some(96),
            arena_allocator: Some(360),
        },
        interpreter: InterpreterLayout {
            next: 0,
            threads_head: 72,
            obmalloc: Obmalloc::Embedded(3960),
        },
        thread: ThreadLayout {
            next: 8,
            interp: 16,
            cframe: Some(56),
            current_frame: 0,
            thread_id: 136,
            native_thread_id: 144,
        },
        frame: FrameLayout { code: 0, previous: 8, instr: 56, owner: 70, owner_boundary: 3 },
        code: CodeLayout {
            firstlineno: 68,
            filename: 112,
            qualname: 128,
            linetable: 136,
            code_adaptive: 192,
        },
        unicode: UnicodeLayout { ascii_data: 40, compact_data: 56 },
        types: TypeLayout { qualname: 872, ..TYPE_3_11 },
    },
    Layout {
        version: (3, 13),
        runtime: RuntimeLayout {
            interpreters_head: 632,
            auto_tss_key: 2164,
            allocators: Some(704),
            arena_allocator: Some(976),
        },
        interpreter: InterpreterLayout {
            next: 7264,
            threads_head: 7344,
            obmalloc: Obmalloc::Pointer(10800),
        },
        thread: ThreadLayout {
            next: 8,
            interp: 16,
            cframe: None,
            current_frame: 72,
            thread_id: 152,
            native_thread_id: 160,
        },
        frame: FrameLayout { code: 0, previous: 8, instr: 56, owner: 70, owner_boundary: 3 },
        code: CodeLayout {
            firstlineno: 68,
            filename: 112,
            qualname: 128,
            linetable: 136,
            code_adaptive: 200,
        },
        unicode: UnicodeLayout { ascii_data: 40, compact_data: 56 },
        types: TypeLayout { qualname: 872, ..TYPE_3_11 },
    },
];

/// The layout of a minor version, where it is known.
#[must_use]
pub fn layout(version: (u8, u8)) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.version == version)
}

/// The versions that [`layout`] knows, for messages.
pub fn known_versions() -> impl Iterator<Item = (u8, u8)> {
    LAYOUTS.iter().map(|layout| layout.version)
}
