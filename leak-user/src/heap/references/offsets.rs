//! Where the interpreter's own types keep their references, offsets in bytes: one row a minor version that changed them.
//!
//! Sources: `Include/cpython/funcobject.h`, `genobject.h`, `frameobject.h`, `pyerrors.h`, `moduleobject.h`,
//! `Include/internal/pycore_frame.h`, `pycore_moduleobject.h`, `pycore_interpframe_structs.h`; compared with DWARF of
//! upstream builds up to 3.13 and with probes compiled against the headers of 3.14.10 and 3.15.2. All of builds with a
//! GIL.

use super::kinds::Field;

/// `tp_weaklistoffset`, `tp_members`, `tp_base`, `tp_dictoffset`, `tp_bases`, `tp_mro`, `tp_cache` of a type: the same
/// in 3.8 to 3.15.
pub(super) const TYPE_WEAKLIST: u64 = 208;
pub(super) const TYPE_MEMBERS: u64 = 240;
pub(super) const TYPE_BASE: u64 = 256;
pub(super) const TYPE_DICTOFFSET: u64 = 288;
pub(super) const TYPE_BASES: u64 = 336;
pub(super) const TYPE_MRO: u64 = 344;
pub(super) const TYPE_CACHE: u64 = 352;

/// What differs from version to version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets {
    /// The row holds from this version on.
    pub from: (u8, u8),
    /// A tuple's items.
    pub tuple_items: u64,
    /// `PyFunctionObject`, but for its `__dict__`.
    pub function: &'static [Field],
    /// `PyBaseExceptionObject`, but for its `__dict__`.
    pub exception: &'static [Field],
    /// `PyGenObject`, coroutines and asynchronous generators: what is not of their frame.
    pub generator: &'static [Field],
    /// Where a generator has its frame.
    pub generator_frame: GeneratorFrame,
    /// `PyFrameObject` but for its frame.
    pub frame_object: &'static [Field],
    /// Local variables.
    pub locals: Locals,
    /// How instances keep attributes without a dict.
    pub attributes: Attributes,
    /// `PyModuleObject.md_state` and where its size is.
    pub module_state: ModuleState,
    /// `PyHeapTypeObject.ht_module`.
    pub type_module: bool,
}

/// Where a generator has its frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum GeneratorFrame {
    /// It points to a frame object (3.10 and before).
    Object(u64),
    /// It is in the generator, from here on; a byte tells of its state.
    Inside { at: u64, state: u64, finished: &'static [i8] },
}

/// Local variables of a running or suspended function.
#[derive(Debug, Clone, Copy)]
pub(super) enum Locals {
    /// In the frame object (3.10 and before): `f_localsplus`; the code's `co_nlocals`, and its tuples of names:
    /// `co_varnames`, `co_cellvars`, `co_freevars`; `f_valuestack`. The frame's `ob_size` is the number of slots with
    /// the stack.
    Object { at: u64, nlocals: u64, names: [u64; 3], stack: u64, top: Top },
    /// In `_PyInterpreterFrame`: `localsplus`, what says how high the stack is, fields; the code's `co_nlocalsplus`,
    /// `co_stacksize`, `co_localsplusnames`, `co_nfreevars`; `PyFrameObject.f_frame`.
    Frame {
        at: u64,
        top: Top,
        fields: &'static [Field],
        count: u64,
        stack: u64,
        names: u64,
        free: u64,
        of_object: u64,
    },
}

/// How a frame says how high its stack is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Top {
    /// `stacktop`, an i32, how many slots, less than the locals while it runs; `f_stackdepth` (3.10), how many of the
    /// stack, -1 while it runs.
    Count(u64),
    /// `stackpointer` (3.14 and later, where references in slots are tagged); `f_stacktop` (3.9 and before), NULL while it
    /// runs.
    Pointer(u64),
}

/// How instances keep attributes without a dict, at the managed words before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attributes {
    /// Not at all (3.10 and before).
    Dict,
    /// `PyDictValues` at -32, or a dict at -24 (3.11).
    Two,
    /// At -24: `PyDictValues` where it is odd, else a dict (3.12).
    Tagged,
    /// A dict at -24, and `PyDictValues` behind the instance (3.13 and later).
    Inline,
}

/// Where the state of an extension module is, and how large.
#[derive(Debug, Clone, Copy)]
pub(super) enum ModuleState {
    /// `md_state`; `m_size` of `md_def`.
    Def { state: u64, def: u64, size: u64 },
    /// `md_state`, `md_state_size` (3.15).
    Own { state: u64, size: u64 },
}

const fn field(at: u64, name: &'static str) -> Field {
    Field { at, name }
}

/// `_PyInterpreterFrame`, 3.12 and later.
const FRAME_FIELDS: &[Field] = &[
    field(0, "f_code"),
    field(16, "its function"),
    field(40, "f_locals"),
    field(48, "its frame object"),
];

const PY_3_8: Offsets = Offsets {
    from: (3, 8),
    tuple_items: 24,
    function: &[
        field(16, "__code__"),
        field(24, "__globals__"),
        field(32, "__defaults__"),
        field(40, "__kwdefaults__"),
        field(48, "__closure__"),
        field(56, "__doc__"),
        field(64, "__name__"),
        field(88, "__module__"),
        field(96, "__annotations__"),
        field(104, "__qualname__"),
    ],
    exception: &[
        field(24, "args"),
        field(32, "__traceback__"),
        field(40, "__context__"),
        field(48, "__cause__"),
    ],
    generator: &[
        field(32, "gi_code"),
        field(48, "__name__"),
        field(56, "__qualname__"),
        field(64, "its exception's class"),
        field(72, "its exception"),
        field(80, "its exception's traceback"),
        field(96, "origin"),
    ],
    generator_frame: GeneratorFrame::Object(16),
    frame_object: &[
        field(24, "f_back"),
        field(32, "f_code"),
        field(40, "f_builtins"),
        field(48, "f_globals"),
        field(56, "f_locals"),
        field(80, "f_trace"),
    ],
    locals: Locals::Object {
        at: 360,
        nlocals: 28,
        names: [72, 88, 80],
        stack: 64,
        top: Top::Pointer(72),
    },
    attributes: Attributes::Dict,
    module_state: ModuleState::Def { state: 32, def: 24, size: 56 },
    type_module: false,
};

const PY_3_9: Offsets = Offsets { from: (3, 9), type_module: true, ..PY_3_8 };

const PY_3_10: Offsets = Offsets {
    from: (3, 10),
    function: &[
        field(16, "__globals__"),
        field(24, "__builtins__"),
        field(32, "__name__"),
        field(40, "__qualname__"),
        field(48, "__code__"),
        field(56, "__defaults__"),
        field(64, "__kwdefaults__"),
        field(72, "__closure__"),
        field(80, "__doc__"),
        field(104, "__module__"),
        field(112, "__annotations__"),
    ],
    generator: &[
        field(24, "gi_code"),
        field(40, "__name__"),
        field(48, "__qualname__"),
        field(56, "its exception's class"),
        field(64, "its exception"),
        field(72, "its exception's traceback"),
        field(88, "origin"),
    ],
    frame_object: &[
        field(24, "f_back"),
        field(32, "f_code"),
        field(40, "f_builtins"),
        field(48, "f_globals"),
        field(56, "f_locals"),
        field(72, "f_trace"),
    ],
    locals: Locals::Object {
        at: 352,
        nlocals: 28,
        names: [72, 88, 80],
        stack: 64,
        top: Top::Count(80),
    },
    ..PY_3_9
};

const PY_3_11: Offsets = Offsets {
    from: (3, 11),
    exception: &[
        field(24, "args"),
        field(32, "__notes__"),
        field(40, "__traceback__"),
        field(48, "__context__"),
        field(56, "__cause__"),
    ],
    generator: &[
        field(16, "gi_code"),
        field(32, "__name__"),
        field(40, "__qualname__"),
        field(48, "its exception"),
        field(64, "origin"),
    ],
    generator_frame: GeneratorFrame::Inside { at: 80, state: 75, finished: &[1, 4] },
    frame_object: &[field(16, "f_back"), field(32, "f_trace")],
    locals: Locals::Frame {
        at: 72,
        top: Top::Count(64),
        fields: &[
            field(0, "its function"),
            field(24, "f_locals"),
            field(32, "f_code"),
            field(40, "its frame object"),
        ],
        count: 76,
        stack: 68,
        names: 96,
        free: 92,
        of_object: 24,
    },
    attributes: Attributes::Two,
    ..PY_3_10
};

const PY_3_12: Offsets = Offsets {
    from: (3, 12),
    function: &[
        field(16, "__globals__"),
        field(24, "__builtins__"),
        field(32, "__name__"),
        field(40, "__qualname__"),
        field(48, "__code__"),
        field(56, "__defaults__"),
        field(64, "__kwdefaults__"),
        field(72, "__closure__"),
        field(80, "__doc__"),
        field(104, "__module__"),
        field(112, "__annotations__"),
        field(120, "__type_params__"),
    ],
    generator: &[
        field(24, "__name__"),
        field(32, "__qualname__"),
        field(40, "its exception"),
        field(56, "origin"),
    ],
    generator_frame: GeneratorFrame::Inside { at: 72, state: 67, finished: &[1, 4] },
    locals: Locals::Frame {
        at: 72,
        top: Top::Count(64),
        fields: FRAME_FIELDS,
        count: 72,
        stack: 64,
        names: 96,
        free: 88,
        of_object: 24,
    },
    attributes: Attributes::Tagged,
    ..PY_3_11
};

const PY_3_13: Offsets = Offsets {
    from: (3, 13),
    frame_object: &[
        field(16, "f_back"),
        field(32, "f_trace"),
        field(48, "f_extra_locals"),
        field(56, "f_locals"),
    ],
    attributes: Attributes::Inline,
    ..PY_3_12
};

const PY_3_14: Offsets = Offsets {
    from: (3, 14),
    tuple_items: 32,
    function: &[
        field(16, "__globals__"),
        field(24, "__builtins__"),
        field(32, "__name__"),
        field(40, "__qualname__"),
        field(48, "__code__"),
        field(56, "__defaults__"),
        field(64, "__kwdefaults__"),
        field(72, "__closure__"),
        field(80, "__doc__"),
        field(104, "__module__"),
        field(112, "__annotations__"),
        field(120, "__annotate__"),
        field(128, "__type_params__"),
    ],
    frame_object: &[
        field(16, "f_back"),
        field(32, "f_trace"),
        field(48, "f_extra_locals"),
        field(56, "f_locals"),
        field(64, "variables that were overwritten"),
    ],
    locals: Locals::Frame {
        at: 80,
        top: Top::Pointer(64),
        fields: FRAME_FIELDS,
        count: 72,
        stack: 64,
        names: 96,
        free: 88,
        of_object: 24,
    },
    ..PY_3_13
};

const PY_3_15: Offsets = Offsets {
    from: (3, 15),
    // `FRAME_CLEARED`; there is no state for what has only ended.
    generator_frame: GeneratorFrame::Inside { at: 72, state: 67, finished: &[5] },
    module_state: ModuleState::Own { state: 24, size: 56 },
    ..PY_3_14
};

/// Newest first.
static ROWS: [Offsets; 8] = [PY_3_15, PY_3_14, PY_3_13, PY_3_12, PY_3_11, PY_3_10, PY_3_9, PY_3_8];

/// Those of a version.
pub(super) fn offsets(version: (u8, u8)) -> &'static Offsets {
    let [.., oldest] = &ROWS;
    ROWS.iter().find(|row| row.from <= version).unwrap_or(oldest)
}
