//! CPython's layouts: one row a minor version, which says what has changed since the one before.
//!
//! Sources: DWARF of upstream builds 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, probes compiled
//! against the headers of Debian's 3.13.5, 3.13.18, 3.14.10 and 3.15.2, the last three also without a GIL. Each row was
//! compared with what live interpreters say of themselves, but for 3.14 and 3.15 without a GIL. Within a minor version
//! none of these moved; [`super::python`] validates them on every target all the same, and from 3.13 on what the
//! interpreter says of itself goes before them ([`super::debug_offsets`]).

use super::layout::{
    CodeLayout, CollectorLayout, CollectorPlace, CollectorStats, Copies, Entry, FrameLayout, Gil,
    Instr, InterpreterLayout, KeysLayout, KeysSize, Layout, Lines, ObjectLayout, Obmalloc,
    PoolLayout, References, RuntimeLayout, StateSlot, ThreadLayout, TypeLayout, UnicodeLayout,
};

/// All builds with a GIL.
const OBJECT: ObjectLayout = ObjectLayout {
    head: 16,
    gc_head: 16,
    references: References::One,
    class: 8,
    size: 16,
    bytes_data: 32,
};

/// 3.8 and 3.10.
const TYPE: TypeLayout = TypeLayout {
    name: 24,
    flags: 168,
    basicsize: 32,
    itemsize: 40,
    dict: 264,
    qualname: 864,
    managed: 0,
};
/// 3.12 to 3.14.
const TYPE_3_12: TypeLayout = TypeLayout { qualname: 872, managed: 1 << 3 | 1 << 4, ..TYPE };

/// 3.9 and 3.10.
const COLLECTOR: CollectorLayout = CollectorLayout {
    place: CollectorPlace::Interpreter(616),
    enabled: 12,
    generations: &[24],
    permanent: 104,
    stats: CollectorStats::Array(128),
    collecting: 200,
    garbage: 208,
};

/// 3.9 and before.
const SMALL_POOLS: &[PoolLayout] = &[PoolLayout { pool_size: 4 << 10, arena_size: 256 << 10 }];
const POOLS: &[PoolLayout] = &[PoolLayout { pool_size: 16 << 10, arena_size: 1 << 20 }];
/// 3.15, which may be built `--with-pymalloc-hugepages`.
const POOLS_3_15: &[PoolLayout] = &[
    PoolLayout { pool_size: 16 << 10, arena_size: 1 << 20 },
    PoolLayout { pool_size: 16 << 10, arena_size: 2 << 20 },
];

/// 3.10 and before.
const OLD_KEYS: KeysLayout = KeysLayout { count: 32, indices: 40, size: KeysSize::Slots };
const KEYS: KeysLayout = KeysLayout { count: 24, indices: 32, size: KeysSize::Bytes };

/// `Objects/floatobject.c`, `tupleobject.c`, `listobject.c`, `dictobject.c`, `Python/context.c`.
const FREE_LISTED: &[&str] =
    &["PyFloat_Type", "PyTuple_Type", "PyList_Type", "PyDict_Type", "PyContext_Type"];

/// From 3.14 on also `Objects/longobject.c`.
const FREE_LISTED_3_14: &[&str] = &[
    "PyFloat_Type",
    "PyTuple_Type",
    "PyList_Type",
    "PyDict_Type",
    "PyContext_Type",
    "PyLong_Type",
];

const PY_3_8: Layout = Layout {
    version: (3, 8),
    free_threaded: false,
    object: OBJECT,
    runtime: RuntimeLayout {
        interpreters_head: 32,
        thread_state: StateSlot::Key(1396),
        allocators: None,
    },
    interpreter: InterpreterLayout {
        next: 0,
        threads_head: 8,
        id: 16,
        gil: Gil::Current(1368),
        obmalloc: Obmalloc::Statics,
    },
    thread: ThreadLayout {
        next: 8,
        interp: 16,
        cframe: None,
        cframe_previous: None,
        current_frame: 24,
        thread_id: 176,
        native_thread_id: None,
    },
    frame: FrameLayout {
        code: 32,
        previous: 24,
        instr: Instr::Index { at: 104, bytes: 1 },
        owner: None,
        entry: Entry::Every { state: 116, executing: 1 },
        copies: None,
    },
    code: CodeLayout {
        firstlineno: 40,
        filename: 104,
        name: 112,
        linetable: 120,
        first_traceable: None,
        lines: Lines::Lnotab,
    },
    unicode: UnicodeLayout { state: 32, kind: 2, ascii_data: 48, compact_data: 72 },
    types: TYPE,
    keys: OLD_KEYS,
    collector: CollectorLayout { place: CollectorPlace::Runtime(344), ..COLLECTOR },
    pools: SMALL_POOLS,
    free_listed: FREE_LISTED,
};

const PY_3_9: Layout = Layout {
    version: (3, 9),
    runtime: RuntimeLayout {
        interpreters_head: 32,
        thread_state: StateSlot::Key(588),
        allocators: None,
    },
    interpreter: InterpreterLayout { id: 24, gil: Gil::Current(568), ..PY_3_8.interpreter },
    types: TypeLayout { qualname: 856, ..TYPE },
    collector: COLLECTOR,
    ..PY_3_8
};

const PY_3_10: Layout = Layout {
    version: (3, 10),
    frame: FrameLayout {
        instr: Instr::Index { at: 96, bytes: 2 },
        entry: Entry::Every { state: 108, executing: 0 },
        ..PY_3_9.frame
    },
    code: CodeLayout { lines: Lines::Pairs, ..PY_3_9.code },
    types: TYPE,
    pools: POOLS,
    ..PY_3_9
};

const PY_3_11: Layout = Layout {
    version: (3, 11),
    free_threaded: false,
    object: OBJECT,
    runtime: RuntimeLayout {
        interpreters_head: 40,
        thread_state: StateSlot::Key(596),
        allocators: None,
    },
    interpreter: InterpreterLayout {
        next: 0,
        threads_head: 16,
        id: 48,
        gil: Gil::Current(576),
        obmalloc: Obmalloc::Statics,
    },
    thread: ThreadLayout {
        next: 8,
        interp: 16,
        cframe: Some(56),
        cframe_previous: Some(16),
        current_frame: 8,
        thread_id: 152,
        native_thread_id: Some(160),
    },
    frame: FrameLayout {
        code: 32,
        previous: 48,
        instr: Instr::Pointer { at: 56, code_start: 184 },
        owner: Some(69),
        entry: Entry::Flag(68),
        copies: None,
    },
    code: CodeLayout {
        firstlineno: 72,
        filename: 112,
        name: 128,
        linetable: 136,
        first_traceable: Some(168),
        lines: Lines::Locations,
    },
    unicode: UnicodeLayout { state: 32, kind: 2, ascii_data: 48, compact_data: 72 },
    types: TypeLayout { managed: 1 << 4, ..TYPE },
    keys: KEYS,
    collector: CollectorLayout { place: CollectorPlace::Interpreter(648), ..COLLECTOR },
    pools: POOLS,
    free_listed: FREE_LISTED,
};

const PY_3_12: Layout = Layout {
    version: (3, 12),
    runtime: RuntimeLayout {
        interpreters_head: 40,
        thread_state: StateSlot::Key(1548),
        allocators: Some(96),
    },
    interpreter: InterpreterLayout {
        next: 0,
        threads_head: 72,
        id: 8,
        gil: Gil::Pointer { at: 384, last_holder: 8 },
        obmalloc: Obmalloc::Embedded(3960),
    },
    thread: ThreadLayout {
        next: 8,
        interp: 16,
        cframe: Some(56),
        cframe_previous: Some(8),
        current_frame: 0,
        thread_id: 136,
        native_thread_id: Some(144),
    },
    frame: FrameLayout {
        code: 0,
        previous: 8,
        instr: Instr::Pointer { at: 56, code_start: 192 },
        owner: Some(70),
        entry: Entry::Boundary,
        copies: None,
    },
    code: CodeLayout {
        firstlineno: 68,
        filename: 112,
        name: 128,
        linetable: 136,
        first_traceable: Some(176),
        lines: Lines::Locations,
    },
    unicode: UnicodeLayout { state: 32, kind: 2, ascii_data: 40, compact_data: 56 },
    types: TYPE_3_12,
    collector: CollectorLayout { place: CollectorPlace::Interpreter(112), ..COLLECTOR },
    ..PY_3_11
};

const PY_3_13: Layout = Layout {
    version: (3, 13),
    runtime: RuntimeLayout {
        interpreters_head: 632,
        thread_state: StateSlot::Key(2164),
        allocators: Some(704),
    },
    interpreter: InterpreterLayout {
        next: 7264,
        threads_head: 7344,
        id: 7272,
        gil: Gil::Pointer { at: 16, last_holder: 8 },
        obmalloc: Obmalloc::Pointer(10800),
    },
    thread: ThreadLayout {
        next: 8,
        interp: 16,
        cframe: None,
        cframe_previous: None,
        current_frame: 72,
        thread_id: 152,
        native_thread_id: Some(160),
    },
    frame: FrameLayout {
        code: 0,
        previous: 8,
        instr: Instr::Pointer { at: 56, code_start: 200 },
        owner: Some(70),
        entry: Entry::Boundary,
        copies: None,
    },
    // Debian's build moves the generations by 4 bytes (its patch `gchead-alignment.diff`).
    collector: CollectorLayout {
        place: CollectorPlace::Interpreter(7400),
        generations: &[24, 20],
        ..COLLECTOR
    },
    code: CodeLayout { first_traceable: Some(184), ..PY_3_12.code },
    ..PY_3_12
};

/// 3.13 without a GIL: other heads of objects, and no pymalloc.
const PY_3_13T: Layout = Layout {
    free_threaded: true,
    object: ObjectLayout {
        head: 32,
        gc_head: 0,
        references: References::Split { local: 12, shared: 16 },
        class: 24,
        size: 32,
        bytes_data: 48,
    },
    interpreter: InterpreterLayout {
        gil: Gil::Pointer { at: 16, last_holder: 16 },
        ..PY_3_13.interpreter
    },
    frame: FrameLayout { instr: Instr::Pointer { at: 56, code_start: 216 }, ..PY_3_13.frame },
    code: CodeLayout {
        firstlineno: 84,
        filename: 128,
        name: 144,
        linetable: 152,
        first_traceable: Some(200),
        lines: Lines::Locations,
    },
    unicode: UnicodeLayout { state: 48, kind: 2, ascii_data: 56, compact_data: 72 },
    types: TypeLayout {
        name: 40,
        flags: 184,
        basicsize: 48,
        itemsize: 56,
        dict: 280,
        qualname: 888,
        ..TYPE_3_12
    },
    ..PY_3_13
};

const PY_3_14: Layout = Layout {
    version: (3, 14),
    runtime: RuntimeLayout {
        interpreters_head: 808,
        thread_state: StateSlot::Key(2340),
        allocators: Some(880),
    },
    interpreter: InterpreterLayout {
        next: 7272,
        threads_head: 7344,
        id: 7280,
        gil: Gil::Pointer { at: 16, last_holder: 8 },
        obmalloc: Obmalloc::Pointer(10904),
    },
    frame: FrameLayout {
        code: 0,
        previous: 8,
        instr: Instr::Pointer { at: 56, code_start: 208 },
        owner: Some(74),
        entry: Entry::Boundary,
        copies: None,
    },
    object: ObjectLayout { references: References::Flagged, ..OBJECT },
    // In 3.14.0 to 3.14.4, whose collector is incremental, these are the young and the two old lists.
    collector: CollectorLayout {
        place: CollectorPlace::Interpreter(7408),
        generations: &[24],
        permanent: 96,
        stats: CollectorStats::Array(120),
        collecting: 192,
        garbage: 200,
        ..COLLECTOR
    },
    free_listed: FREE_LISTED_3_14,
    code: CodeLayout { first_traceable: Some(192), ..PY_3_13.code },
    ..PY_3_13
};

/// 3.14 without a GIL.
const PY_3_14T: Layout = Layout {
    runtime: PY_3_14.runtime,
    interpreter: InterpreterLayout { gil: PY_3_13T.interpreter.gil, ..PY_3_14.interpreter },
    frame: FrameLayout {
        instr: Instr::Pointer { at: 56, code_start: 232 },
        owner: Some(78),
        copies: Some(Copies { index: 72, array: 224 }),
        ..PY_3_14.frame
    },
    unicode: UnicodeLayout { kind: 8, ..PY_3_13T.unicode },
    version: PY_3_14.version,
    free_listed: PY_3_14.free_listed,
    code: CodeLayout { first_traceable: Some(208), ..PY_3_13T.code },
    ..PY_3_13T
};

const PY_3_15: Layout = Layout {
    version: (3, 15),
    runtime: RuntimeLayout {
        interpreters_head: 936,
        thread_state: StateSlot::ThreadLocal,
        allocators: Some(1008),
    },
    interpreter: InterpreterLayout {
        next: 7264,
        threads_head: 7336,
        id: 7272,
        gil: Gil::Pointer { at: 16, last_holder: 8 },
        obmalloc: Obmalloc::Pointer(10880),
    },
    thread: ThreadLayout {
        next: 8,
        interp: 16,
        cframe: None,
        cframe_previous: None,
        current_frame: 72,
        thread_id: 176,
        native_thread_id: Some(184),
    },
    types: TypeLayout { qualname: 880, ..TYPE_3_12 },
    collector: CollectorLayout {
        place: CollectorPlace::Interpreter(7400),
        enabled: 0,
        generations: &[8],
        permanent: 80,
        stats: CollectorStats::Rings(104),
        collecting: 112,
        garbage: 128,
    },
    pools: POOLS_3_15,
    ..PY_3_14
};

/// 3.15 without a GIL.
const PY_3_15T: Layout = Layout {
    runtime: PY_3_15.runtime,
    interpreter: InterpreterLayout { gil: PY_3_13T.interpreter.gil, ..PY_3_15.interpreter },
    thread: PY_3_15.thread,
    types: TypeLayout { qualname: 896, ..PY_3_14T.types },
    version: PY_3_15.version,
    ..PY_3_14T
};

const LAYOUTS: [Layout; 8] = [PY_3_8, PY_3_9, PY_3_10, PY_3_11, PY_3_12, PY_3_13, PY_3_14, PY_3_15];

const FREE_THREADED: [Layout; 3] = [PY_3_13T, PY_3_14T, PY_3_15T];

/// The layout of a minor version, where it is known.
#[must_use]
pub fn layout(version: (u8, u8)) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.version == version)
}

/// The layout of a minor version built without a GIL, where it is known.
#[must_use]
pub fn free_threaded(version: (u8, u8)) -> Option<&'static Layout> {
    FREE_THREADED.iter().find(|layout| layout.version == version)
}

/// All, with and without a GIL.
pub fn all() -> impl Iterator<Item = &'static Layout> {
    LAYOUTS.iter().chain(&FREE_THREADED)
}

/// The versions that [`layout()`] knows, for messages.
pub fn known_versions() -> impl Iterator<Item = (u8, u8)> {
    LAYOUTS.iter().map(|layout| layout.version)
}
