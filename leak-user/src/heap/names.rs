//! The names of types, qualified as Python says them.

use std::collections::HashMap;
use std::sync::Arc;

use super::types::Types;
use crate::symbolize::unicode;
use crate::target::layout::{KeysSize, Layout};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Longest module or type name, in characters.
const MAX_NAME: usize = 200;

/// Names that are remembered; beyond that the cache starts anew.
const MAX_CACHED: usize = 1 << 16;

/// Entries of a type's `__dict__` that are searched for `__module__`, which is near the first.
const MAX_ENTRIES: u64 = 1024;

/// Names of types by address.
#[derive(Debug)]
pub struct TypeNames {
    layout: &'static Layout,
    types: Types,
    /// A type is told from a later one at its address by where its name is.
    names: HashMap<(Addr, Addr), Arc<str>>,
}

impl TypeNames {
    /// Reads nothing yet; `type_type` is `PyType_Type`.
    #[must_use]
    pub fn new(layout: &'static Layout, type_type: Addr) -> Self {
        Self { layout, types: Types::new(layout, type_type), names: HashMap::new() }
    }

    /// `module.qualname`; `builtins.` where a static type's name has no module; None where there is
    /// no type, or its name could not be read. What can't be part of a name is escaped.
    pub fn name<M: Memory>(&mut self, memory: &M, type_addr: Addr) -> Option<Arc<str>> {
        self.types.begin_look();
        let head = self.types.get(memory, type_addr)?;
        let key = (type_addr, head.name);
        if let Some(known) = self.names.get(&key) {
            return Some(Arc::clone(known));
        }
        let name = if head.is_heap_type() {
            self.heap_type_name(memory, type_addr).or_else(|| c_string(memory, head.name))?
        } else {
            let name = c_string(memory, head.name)?;
            if name.contains('.') { name } else { format!("builtins.{name}") }
        };
        let name: Arc<str> = escaped(&name).into();
        if self.names.len() >= MAX_CACHED {
            self.names.clear();
        }
        self.names.insert(key, Arc::clone(&name));
        Some(name)
    }

    fn heap_type_name<M: Memory>(&self, memory: &M, type_addr: Addr) -> Option<String> {
        let types = &self.layout.types;
        let qualname = memory.pointer(type_addr.offset(types.qualname)).ok()?;
        let qualname = unicode::read(memory, self.layout, qualname, MAX_NAME)?;
        let dict = memory.pointer(type_addr.offset(types.dict)).ok()?;
        let module = self
            .value(memory, dict, "__module__")
            .and_then(|module| unicode::read(memory, self.layout, module, MAX_NAME));
        Some(match module {
            Some(module) => format!("{module}.{qualname}"),
            None => qualname,
        })
    }

    /// A dict's value for a key that is a string. Only dicts that own their keys: those of types do.
    ///
    /// `PyDictObject`: `ma_keys` and `ma_values`, behind `ma_used` and `ma_version_tag`.
    fn value<M: Memory>(&self, memory: &M, dict: Addr, key: &str) -> Option<Addr> {
        let mut words = [0; 16];
        memory.read(dict.offset(self.layout.object.head + 16), &mut words).ok()?;
        let (keys, values) = (Addr(word(&words, 0)?), word(&words, 8)?);
        if values != 0 {
            return None;
        }
        let layout = &self.layout.keys;
        let mut head = [0; 40];
        memory.read(keys, &mut head).ok()?;
        let (index_bytes, with_hash) = index(layout.size, &head)?;
        // Entries: hash, key, value, or key, value.
        let (entry_bytes, key_at) = if with_hash { (24, 8) } else { (16, 0) };
        let count = word(&head, usize::try_from(layout.count).ok()?)?.min(MAX_ENTRIES);
        let mut entries = vec![0; usize::try_from(count).ok()? * entry_bytes];
        memory.read(keys.offset(layout.indices + index_bytes), &mut entries).ok()?;
        entries.chunks_exact(entry_bytes).find_map(|entry| {
            let (name, value) = (word(entry, key_at)?, word(entry, key_at + 8)?);
            let found = value != 0
                && unicode::read(memory, self.layout, Addr(name), MAX_NAME).as_deref() == Some(key);
            found.then_some(Addr(value))
        })
    }
}

/// Bytes of a table's index, and whether its entries hold hashes.
pub(super) fn index(size: KeysSize, head: &[u8]) -> Option<(u64, bool)> {
    match size {
        KeysSize::Slots => {
            let slots = word(head, 8)?;
            let slot_bytes = match slots {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => return None,
            };
            Some((slots * slot_bytes, true))
        }
        KeysSize::Bytes => {
            let bytes =
                1_u64.checked_shl((*head.get(9)?).into()).filter(|bytes| *bytes < 1 << 40)?;
            match head.get(10)? {
                0 => Some((bytes, true)),
                1 | 2 => Some((bytes, false)),
                _ => None,
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// A C string, read piece by piece since its end may be the end of what is mapped.
pub(super) fn c_string<M: Memory>(memory: &M, addr: Addr) -> Option<String> {
    let mut text = Vec::new();
    while text.len() < MAX_NAME {
        let at = addr.offset(text.len() as u64);
        // Up to the next multiple of 32: never over the end of a page.
        let mut piece = vec![0; 32 - (at.0 % 32) as usize];
        memory.read(at, &mut piece).ok()?;
        let end = piece.iter().position(|byte| *byte == 0);
        text.extend_from_slice(piece.get(..end.unwrap_or(piece.len()))?);
        if end.is_some() {
            break;
        }
    }
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).chars().take(MAX_NAME).collect())
}

/// Names come from the target: only what can be part of one is left as it is.
fn escaped(name: &str) -> String {
    let is_fine = |c: char| c.is_alphanumeric() || "_.<>[]-, ".contains(c);
    name.chars()
        .flat_map(|c| {
            let escape = (!is_fine(c)).then(|| c.escape_default());
            let plain = is_fine(c).then_some(c);
            escape.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::{FakeMemory, Python, interpreters};

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped("app.Größe.<locals>.X[int]"), "app.Größe.<locals>.X[int]");
        assert_eq!(escaped("a\x1b[31m\"\u{202e}"), "a\\u{1b}[31m\\\"\\u{202e}");
    }

    #[test]
    fn c_strings_are_bounded() {
        let mut memory = FakeMemory::default();
        memory.map(0x1000, 0x1000);
        memory.write(0x1ff0, &[b'x'; 16]);
        assert_eq!(c_string(&memory, Addr(0x1ff0)), None, "no end");
        memory.write(0x1ff8, b"\0");
        assert_eq!(c_string(&memory, Addr(0x1ff0)).as_deref(), Some("xxxxxxxx"));
        memory.write(0x1000, &[b'y'; 0x800]);
        assert_eq!(c_string(&memory, Addr(0x1003)).unwrap().len(), MAX_NAME);
        assert_eq!(c_string(&memory, Addr(0x1900)), None, "empty");
    }

    const PROGRAM: &str = "
import sys, abc, enum, collections, datetime, decimal, functools, types
class Meta(type): pass
class Plain: pass
class Größe(metaclass=Meta):
    class Inner: pass
class Abstract(abc.ABC): pass
class Color(enum.Enum): RED = 1
class Many: pass
for i in range(100): setattr(Many, 'x%d' % i, i)
def make():
    class Local: pass
    return Local
Moved = type('Moved', (), {'a': 1, '__module__': 'some.where'})
# A key that is no string: the general form of a dict's table.
import warnings; warnings.simplefilter('ignore')
Odd = type('Odd', (), {3: 4, '__module__': 'odd'})
Point = collections.namedtuple('Point', 'x y')
keep = [type, int, dict, object, Plain, Meta, Größe, Größe.Inner, Abstract, Color, Many, make(), Moved,
        Odd, Point, collections.OrderedDict, collections.deque, datetime.datetime, decimal.Decimal,
        functools.partial, types.FunctionType, abc.ABCMeta, collections.Counter]
for t in keep:
    name = t.__dict__.get('__module__', None)
    print(id(t), ('builtins' if not isinstance(name, str) else name) + '.' + t.__qualname__
          if t.__flags__ & 512 else t.__module__ + '.' + t.__qualname__)
print('end')
print(id(type))
sys.stdin.readline()
";

    #[test]
    fn agrees_with_live_interpreters() {
        for (exe, layout) in interpreters() {
            let mut python = Python::run(&exe, PROGRAM);
            let mut said = Vec::new();
            loop {
                let line = python.line();
                let Some((addr, name)) = line.split_once(' ') else { break };
                said.push((Addr(addr.parse().unwrap()), name.to_owned()));
            }
            let mut names = TypeNames::new(layout, Addr(python.numbers()[0]));
            let memory = python.memory();
            for (addr, name) in &said {
                let found = names.name(&memory, *addr);
                assert_eq!(found.as_deref(), Some(name.as_str()), "{}", exe.display());
            }
            assert_eq!(said.len(), 23);
            assert_eq!(names.name(&memory, Addr(said[0].0.0 + 8)), None);
        }
    }
}
