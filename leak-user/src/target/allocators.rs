//! The allocator tables: which functions serve the `raw`, `mem` and `obj` domains now.
//!
//! Every allocation goes through these tables, also where the public functions are inlined. Each
//! entry is a `PyMemAllocatorEx`: ctx, malloc, calloc, realloc, free. tracemalloc and the debug hooks
//! put themselves in front and keep the entry they replaced behind their ctx.

use super::decode::{self, Reference};
use super::error::TargetError;
use super::files::{Files, Loaded};
use super::memory::{Memory, ReadError};
use super::python::Interpreter;
use super::{AllocatorFunctions, AllocatorKind, Allocators, Segment};
use crate::units::{Addr, Pid};

/// `sizeof(PyMemAllocatorEx)`.
const ENTRY: u64 = 40;
/// Hooks in front of hooks.
const MAX_HOOKS: usize = 8;
/// Words for the report.
const TRACEMALLOC: &str = "tracemalloc";
/// As [`Allocators`] names them.
pub const DEBUG_HOOKS: &str = "debug hooks";
const OTHER_HOOKS: &str = "an extension's hooks";

/// The tables' addresses in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    raw: Addr,
    mem: Addr,
    obj: Addr,
}

/// A `PyMemAllocatorEx` as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    ctx: Addr,
    malloc: Addr,
    calloc: Addr,
    realloc: Addr,
    free: Addr,
}

/// Reads the tables. The kind is [`AllocatorKind::Malloc`] or, until pymalloc's state has been
/// found, [`AllocatorKind::Other`].
///
/// # Errors
/// [`TargetError::Inconsistent`] where the tables can't be found or do not hold functions.
pub fn find(
    pid: Pid,
    files: &Files,
    memory: &impl Memory,
    interpreter: &Interpreter,
) -> Result<Allocators, TargetError> {
    let tables = tables(interpreter)
        .ok_or_else(|| TargetError::inconsistent("the allocator tables can't be found"))?;
    let mut hooks = Vec::new();
    let mut domain = |name: &str, table: Addr| -> Result<AllocatorFunctions, TargetError> {
        let wrong = || TargetError::inconsistent(format!("the {name} allocator table at {table}"));
        let outer = entry(files, memory, table).map_err(|e| match e {
            Some(e) => TargetError::read(pid, "an allocator table", e),
            None => wrong(),
        })?;
        let inner = behind_hooks(files, memory, interpreter, outer, &mut hooks);
        functions(files, inner).ok_or_else(wrong)
    };
    let seen = tables.read(memory).map_err(|e| TargetError::read(pid, "an allocator table", e))?;
    let raw = domain("raw", tables.raw)?;
    let mem = domain("mem", tables.mem)?;
    let object = domain("obj", tables.obj)?;
    let kind = if object == raw { AllocatorKind::Malloc } else { AllocatorKind::Other };
    Ok(Allocators { kind, object, memory: mem, raw, hooks, tables, seen })
}

impl Allocators {
    /// Do the tables hold something else by now? (tracemalloc was started, an extension has put itself in.)
    /// Not where they can't be read: the target has ended.
    #[must_use]
    pub fn have_changed(&self, memory: &impl Memory) -> bool {
        self.tables.read(memory).is_ok_and(|now| now != self.seen)
    }
}

/// The content of the tables.
pub type Entries = [[u8; ENTRY as usize]; 3];

impl Tables {
    fn read(&self, memory: &impl Memory) -> Result<Entries, ReadError> {
        let mut entries = [[0; ENTRY as usize]; 3];
        for (entry, table) in entries.iter_mut().zip([self.raw, self.mem, self.obj]) {
            memory.read(table, entry)?;
        }
        Ok(entries)
    }
}

fn tables(interpreter: &Interpreter) -> Option<Tables> {
    if let Some(offset) = interpreter.layout.runtime.allocators {
        let raw = interpreter.runtime.offset(offset);
        return Some(Tables { raw, mem: raw.offset(ENTRY), obj: raw.offset(2 * ENTRY) });
    }
    let file = &interpreter.file;
    // The functions of the other domains may have those of `raw` inlined.
    let raw = file.symbol("_PyMem_Raw").or_else(|| decoded(file, "PyMem_Raw", None))?;
    let mem = file.symbol("_PyMem").or_else(|| decoded(file, "PyMem_", Some(raw)))?;
    let obj = file.symbol("_PyObject").or_else(|| decoded(file, "PyObject_", Some(raw)))?;
    (mem != obj).then_some(Tables { raw, mem, obj })
}

/// A stripped file: the table is what the exported functions of the domain load from.
fn decoded(file: &Loaded, domain: &str, other: Option<Addr>) -> Option<Addr> {
    let references = ["Malloc", "Calloc", "Realloc", "Free"].map(|function| {
        file.code(&format!("{domain}{function}"))
            .map(|(addr, code)| decode::references(&code, addr.0))
            .unwrap_or_default()
    });
    let variable = |address: u64| {
        let address = address.wrapping_sub(file.module.bias);
        let holds = |s: &Segment| address.checked_sub(s.address).is_some_and(|a| a < s.memory_size);
        file.module.segments.iter().any(|segment| segment.writable && holds(segment))
    };
    table_of(&references, |table| variable(table.0) && Some(table) != other)
}

/// The address T of which every function loads T (its ctx) and its own entry: malloc T+8, calloc
/// T+16, realloc T+24, free T+32. Some may be too inlined to show it; two must.
fn table_of(references: &[Vec<Reference>; 4], possible: impl Fn(Addr) -> bool) -> Option<Addr> {
    let loads = |function: &[Reference], address: u64| {
        function.iter().any(|r| r.size == 8 && r.address == address)
    };
    let agreeing = |table: u64| {
        let agrees = |(function, offset): (&Vec<Reference>, u64)| {
            loads(function, table) && loads(function, table.wrapping_add(offset))
        };
        references.iter().zip([8, 16, 24, 32]).filter(|pair| agrees(*pair)).count()
    };
    let candidates = references.iter().flatten().map(|reference| reference.address);
    let candidates = candidates.filter(|&table| possible(Addr(table)));
    candidates
        .map(|table| (agreeing(table), table))
        .max()
        .filter(|(agreeing, _)| *agreeing >= 2)
        .map(|(_, table)| Addr(table))
}

/// Reads an entry; Err(None): it does not hold four functions.
fn entry(files: &Files, memory: &impl Memory, addr: Addr) -> Result<Entry, Option<ReadError>> {
    let mut bytes = [0; ENTRY as usize];
    memory.read(addr, &mut bytes).map_err(Some)?;
    let mut words = bytes.as_chunks::<8>().0.iter().map(|word| Addr(u64::from_le_bytes(*word)));
    let mut next = || words.next().unwrap_or_default();
    let entry =
        Entry { ctx: next(), malloc: next(), calloc: next(), realloc: next(), free: next() };
    let functions = [entry.malloc, entry.calloc, entry.realloc, entry.free];
    if functions.into_iter().all(|function| files.is_code(function)) {
        Ok(entry)
    } else {
        Err(None)
    }
}

/// Follows the contexts of hooks to the allocator that does the work.
fn behind_hooks(
    files: &Files,
    memory: &impl Memory,
    interpreter: &Interpreter,
    outer: Entry,
    hooks: &mut Vec<&'static str>,
) -> Entry {
    let module = &interpreter.file.module;
    let mut current = outer;
    for _ in 0..MAX_HOOKS {
        if current.ctx.is_null() {
            break;
        }
        // tracemalloc (and extensions like it): ctx is the entry that was replaced. Debug hooks:
        // ctx is {char api_id; PyMemAllocatorEx alloc}.
        let own = module.file_offset(current.malloc).is_some();
        let (name, inner) = if let Ok(inner) = entry(files, memory, current.ctx) {
            (if own { TRACEMALLOC } else { OTHER_HOOKS }, inner)
        } else if let Ok(inner) = entry(files, memory, current.ctx.offset(8)) {
            (DEBUG_HOOKS, inner)
        } else {
            break;
        };
        if !hooks.contains(&name) {
            hooks.push(name);
        }
        current = inner;
    }
    current
}

fn functions(files: &Files, entry: Entry) -> Option<AllocatorFunctions> {
    Some(AllocatorFunctions {
        malloc: files.function(entry.malloc)?,
        calloc: files.function(entry.calloc)?,
        realloc: files.function(entry.realloc)?,
        free: files.function(entry.free)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(addresses: &[u64]) -> Vec<Reference> {
        addresses.iter().map(|&address| Reference { address, size: 8 }).collect()
    }

    #[test]
    fn the_table_is_what_the_functions_agree_on() {
        // Debian's 3.11: malloc and free inline pymalloc, which refers to other variables as well.
        let references = [
            loads(&[0x959f48, 0x959f40, 0xa843a0]),
            loads(&[0x959f40, 0x959f50]),
            loads(&[0x959f40, 0x959f58]),
            loads(&[0x959f60, 0x959f40, 0xac4628]),
        ];
        assert_eq!(table_of(&references, |_| true), Some(Addr(0x959f40)));
        assert_eq!(table_of(&references, |table| table != Addr(0x959f40)), None);
        let one = [loads(&[8, 16]), vec![], vec![], vec![]];
        assert_eq!(table_of(&one, |_| true), None);
        assert_eq!(table_of(&[vec![], vec![], vec![], vec![]], |_| true), None);
    }
}
