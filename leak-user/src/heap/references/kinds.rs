//! Types whose references are not where their members say: by name, what they add to their base.

use super::offsets::Offsets;

/// A reference in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Where.
    pub at: u64,
    /// What Python calls it.
    pub name: &'static str,
}

/// What a type adds to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// These and no others.
    Fields(&'static [Field]),
    /// `dict`.
    Dict,
    /// `list`.
    List,
    /// `tuple`.
    Tuple,
    /// `set` and `frozenset`.
    Set,
    /// `collections.deque`.
    Deque,
    /// Generators, coroutines, asynchronous generators.
    Generator,
    /// A frame as an object.
    Frame,
    /// `type`.
    Type,
    /// A module.
    Module,
    /// What its members say, and no others.
    Members,
    /// Fields without names; words that look like references are some.
    Words,
    /// `numpy.ndarray`.
    Array,
    /// What `functools.lru_cache` makes of a function.
    LruCache,
}

const fn field(at: u64, name: &'static str) -> Field {
    Field { at, name }
}

/// By `tp_name`.
///
/// Sources: `Objects/*.c` and `Modules/_functoolsmodule.c`, `_collectionsmodule.c`: what their `tp_traverse` visits.
static KINDS: &[(&str, Kind)] = &[
    ("object", Kind::Fields(&[])),
    ("int", Kind::Fields(&[])),
    ("bool", Kind::Fields(&[])),
    ("float", Kind::Fields(&[])),
    ("complex", Kind::Fields(&[])),
    ("str", Kind::Fields(&[])),
    ("bytes", Kind::Fields(&[])),
    ("bytearray", Kind::Fields(&[])),
    ("dict", Kind::Dict),
    ("frozendict", Kind::Dict),
    ("list", Kind::List),
    ("tuple", Kind::Tuple),
    ("set", Kind::Set),
    ("frozenset", Kind::Set),
    ("collections.deque", Kind::Deque),
    ("generator", Kind::Generator),
    ("coroutine", Kind::Generator),
    ("async_generator", Kind::Generator),
    ("frame", Kind::Frame),
    ("type", Kind::Type),
    ("module", Kind::Module),
    ("cell", Kind::Fields(&[field(16, "cell_contents")])),
    ("method", Kind::Fields(&[field(16, "__func__"), field(24, "__self__")])),
    ("builtin_function_or_method", Kind::Fields(&[field(24, "__self__"), field(32, "__module__")])),
    ("mappingproxy", Kind::Fields(&[field(16, "its mapping")])),
    ("traceback", Kind::Fields(&[field(16, "tb_next"), field(24, "tb_frame")])),
    // What these refer to weakly doesn't count.
    ("weakref", WEAK),
    ("weakref.ReferenceType", WEAK),
    ("weakproxy", WEAK),
    ("weakref.ProxyType", WEAK),
    ("weakcallableproxy", WEAK),
    ("weakref.CallableProxyType", WEAK),
    // The buffer's own object is that of the managed buffer too.
    ("memoryview", Kind::Fields(&[field(24, "its buffer")])),
    ("managedbuffer", Kind::Fields(&[field(40, "obj")])),
    (
        "functools.partial",
        Kind::Fields(&[field(16, "func"), field(24, "args"), field(32, "keywords")]),
    ),
    ("functools._lru_list_elem", Kind::Fields(&[field(40, "key"), field(48, "result")])),
    ("functools._lru_cache_wrapper", Kind::LruCache),
    // What it was asked for last is not counted.
    ("ContextVar", Kind::Fields(&[field(16, "name"), field(24, "its default")])),
    ("_contextvars.ContextVar", Kind::Fields(&[field(16, "name"), field(24, "its default")])),
    // What its bytecode refers to does not count.
    ("code", Kind::Members),
    ("list_iterator", Kind::Words),
    ("list_reverseiterator", Kind::Words),
    ("tuple_iterator", Kind::Words),
    ("set_iterator", Kind::Words),
    ("dict_keyiterator", Kind::Words),
    ("dict_valueiterator", Kind::Words),
    ("dict_itemiterator", Kind::Words),
    ("_collections._deque_iterator", Kind::Words),
    ("dict_keys", Kind::Words),
    ("dict_values", Kind::Words),
    ("dict_items", Kind::Words),
    ("enumerate", Kind::Words),
    ("zip", Kind::Words),
    ("map", Kind::Words),
    ("filter", Kind::Words),
    ("reversed", Kind::Words),
    ("_asyncio.Future", Kind::Words),
    ("_asyncio.Task", Kind::Words),
    ("_thread._local", Kind::Words),
    ("Context", Kind::Words),
    ("_contextvars.Context", Kind::Words),
    ("hamt", Kind::Words),
    ("hamt_bitmap_node", Kind::Words),
    ("hamt_array_node", Kind::Words),
    ("hamt_collision_node", Kind::Words),
    ("numpy.ndarray", Kind::Array),
];

const WEAK: Kind = Kind::Fields(&[field(24, "__callback__")]);

/// What a type of the interpreter's own adds to its base; None where that isn't known.
pub(super) fn kind(name: &str, offsets: &Offsets) -> Option<Kind> {
    match name {
        _ if name.starts_with("itertools.") => Some(Kind::Words),
        "function" => Some(Kind::Fields(offsets.function)),
        "BaseException" => Some(Kind::Fields(offsets.exception)),
        _ => KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind),
    }
}
