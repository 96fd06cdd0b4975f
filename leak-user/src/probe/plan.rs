//! Which program goes where: the probe table of a target, as data.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    budget::Kind,
    error::ProbeError,
    prologue::{self, Needs, Point},
    returns,
};
use crate::{
    target::{AllocatorFunctions, AllocatorKind, EntryPoint, Function, Role, Target, kernel},
    units::Pid,
};

/// One program at one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The eBPF program.
    pub program: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Offset in it.
    pub file_offset: u64,
    /// What the instruction there is called.
    pub instruction: String,
    /// The kernel emulates it.
    pub emulated: bool,
}

/// All that is attached in a burst, and how the programs must be configured for it.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Probes of pymalloc.
    pub pymalloc: Vec<Probe>,
    /// Probes of the heap behind malloc.
    pub malloc: Vec<Probe>,
    /// `_PyObject_Realloc` has its own copy of the allocation path.
    pub realloc_inlines_malloc: bool,
    /// … and of the freeing path.
    pub realloc_inlines_free: bool,
    /// What could not be planned for, in sentences.
    pub unseen: Vec<String>,
}

impl Plan {
    /// What can be watched.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Pymalloc, Kind::Malloc];
        kinds.retain(|kind| !self.probes(*kind).is_empty());
        kinds
    }

    /// The probes of one kind of burst.
    #[must_use]
    pub fn probes(&self, kind: Kind) -> &[Probe] {
        match kind {
            Kind::Pymalloc => &self.pymalloc,
            Kind::Malloc => &self.malloc,
        }
    }
}

/// Bytes of a function looked at to see what it calls.
const BODY: usize = 4096;

/// How the result of a function is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// By return probes.
    Probes,
    /// By probes on the instructions that return, where return probes could do harm.
    Instructions,
}

impl Returns {
    /// What does a process no harm on this kernel.
    #[must_use]
    pub fn harmless(pid: Pid) -> Self {
        if kernel::uretprobe_hazard(pid) { Self::Instructions } else { Self::Probes }
    }
}

/// Makes the plan.
///
/// # Errors
/// [`ProbeError::File`] where the interpreter's file can't be read.
pub fn plan(target: &Target, returns: Returns) -> Result<Plan, ProbeError> {
    let mut plan = Plan::default();
    let allocators = target.python.as_ref().ok().map(|python| &python.allocators);
    if let (Some(allocators), Some(_)) = (allocators, target.pymalloc()) {
        let object = &allocators.object;
        plan.pymalloc = pymalloc(object);
        if allocators.memory != *object {
            plan.pymalloc.extend(pymalloc(&allocators.memory));
        }
        let body = body(&object.realloc)?;
        let start = object.realloc.addr.0;
        // A jump to malloc is what it does with a NULL block; moving one, it goes on after malloc, but
        // may end with free.
        plan.realloc_inlines_malloc = !prologue::calls(&body, start, object.malloc.addr.0, false);
        plan.realloc_inlines_free = !prologue::calls(&body, start, object.free.addr.0, true);
    }
    let mut functions = Vec::new();
    match &target.heap {
        Some(heap) => functions.extend(heap.entry_points.iter().map(entry)),
        None => plan.unseen.push("the C library's heap: its functions were not found".to_owned()),
    }
    if let Some(allocators) = allocators
        && allocators.kind == AllocatorKind::Other
    {
        functions.extend(table(&allocators.object));
        functions.extend(table(&allocators.memory));
    }
    plan.heap(&functions, returns)?;
    if let Err(unknown) = &target.python {
        plan.unseen.push(format!(
            "Python's lines, types and small objects: {unknown}; growth is told by what compiled code maps \
             and allocates"
        ));
    }
    Ok(plan)
}

/// A program that sees the calls of a function, whose name is for people.
struct Entry<'a> {
    program: &'static str,
    name: &'static str,
    function: &'a Function,
}

/// Which program sees the calls of an entry point.
fn entry(entry_point: &EntryPoint) -> Entry<'_> {
    let program = match entry_point.role {
        Role::Malloc => "malloc_enter",
        Role::Calloc => "calloc_enter",
        Role::Realloc => "realloc_enter",
        Role::Memalign => "memalign_enter",
        Role::PosixMemalign => "posix_memalign_enter",
        Role::Free => "free_enter",
    };
    Entry { program, name: entry_point.name, function: &entry_point.function }
}

/// Programs that see the calls of an allocator of Python's tables.
fn table(functions: &AllocatorFunctions) -> [Entry<'_>; 4] {
    [
        ("table_malloc_enter", "Python's malloc", &functions.malloc),
        ("table_calloc_enter", "Python's calloc", &functions.calloc),
        ("table_realloc_enter", "Python's realloc", &functions.realloc),
        ("table_free_enter", "Python's free", &functions.free),
    ]
    .map(|(program, name, function)| Entry { program, name, function })
}

/// What bursts leave untold, where the blocks' heap is not glibc's.
#[must_use]
pub fn untold(target: &Target) -> Option<String> {
    let own = target.python.as_ref().is_ok_and(|p| p.allocators.kind == AllocatorKind::Other);
    let name = match &target.heap {
        _ if own => "an allocator of Python's that is not pymalloc",
        Some(heap) if !heap.glibc => &heap.name,
        _ => return None,
    };
    Some(format!(
        "the own records of {name}: whether a block still lives is told by what it holds, and by the \
         frees and allocations that later bursts see"
    ))
}

impl Plan {
    /// Plans for functions of heaps and their results.
    fn heap(&mut self, functions: &[Entry<'_>], returns: Returns) -> Result<(), ProbeError> {
        let mut seen = HashSet::new();
        let mut unknown = Vec::new();
        for Entry { program, name, function } in functions {
            if !seen.insert(function.addr) {
                continue;
            }
            let entry = probe(program, function);
            let exits = if is_free(program) {
                Vec::new()
            } else if let Some(exits) = exits(function, &entry, returns)? {
                exits
            } else {
                unknown.push(*name);
                continue;
            };
            self.malloc.push(entry);
            // Functions that jump to each other return at the same instructions.
            let new: Vec<_> = exits.into_iter().filter(|e| !self.malloc.contains(e)).collect();
            self.malloc.extend(new);
        }
        if !unknown.is_empty() {
            self.unseen.push(format!(
                "what {} give out: a return probe could make the target's seccomp filter kill it on this \
                 kernel, and at which instructions they return could not be told",
                unknown.join(", ")
            ));
        }
        Ok(())
    }
}

fn is_free(program: &str) -> bool {
    ["free_enter", "table_free_enter"].contains(&program)
}

/// What sees the results of a function that `entry` is on; None where it can't be told.
pub(super) fn exits(
    function: &Function,
    entry: &Probe,
    returns: Returns,
) -> Result<Option<Vec<Probe>>, ProbeError> {
    if returns == Returns::Probes {
        return Ok(Some(vec![Probe { program: "malloc_exit", ..entry.clone() }]));
    }
    let path = &function.open_path;
    let file = File::open(path).map_err(unreadable(path))?;
    let read = |at: u64| {
        let mut bytes = vec![0; 15];
        let length = file.read_at(&mut bytes, at).ok()?;
        bytes.truncate(length);
        Some(bytes)
    };
    let exit = |file_offset| Probe {
        program: "malloc_return",
        path: path.clone(),
        file_offset,
        instruction: "ret".to_owned(),
        emulated: false,
    };
    let places = returns::find(function.file_offset, read);
    Ok(places.map(|places| places.into_iter().map(exit).collect()))
}

fn pymalloc(functions: &AllocatorFunctions) -> Vec<Probe> {
    vec![
        probe("pymalloc_malloc", &functions.malloc),
        probe("pymalloc_calloc", &functions.calloc),
        probe("pymalloc_realloc", &functions.realloc),
        probe("pymalloc_free", &functions.free),
    ]
}

/// What a program reads (`leak-ebpf/src/probes/`). The return address is where the result is seen, and tells
/// calls within calls apart.
fn needs(program: &str) -> Needs {
    let arguments: &[usize] = match program {
        "malloc_enter" | "free_enter" => &[0],
        "calloc_enter" | "realloc_enter" => &[0, 1],
        "posix_memalign_enter" => &[0, 2],
        "memalign_enter" | "pymalloc_malloc" | "pymalloc_free" | "table_malloc_enter"
        | "table_free_enter" => &[1],
        "pymalloc_calloc" | "pymalloc_realloc" | "table_calloc_enter" | "table_realloc_enter" => {
            &[1, 2]
        }
        "gpu_enter" | "torch_failure" => &[0, 1, 2, 3],
        "gpu_free" => &[0, 1],
        "torch_report" => &[0, 1, 2, 3, 4],
        _ => &[0, 1, 2],
    };
    let ends_unseen = program.starts_with("pymalloc_") || is_free(program);
    Needs { arguments, return_address: !ends_unseen }
}

/// A program at the cheapest instruction of a function.
pub(super) fn probe(program: &'static str, function: &Function) -> Probe {
    let Point { offset, emulated } = prologue::choose(&function.code, needs(program));
    Probe {
        program,
        path: function.open_path.clone(),
        file_offset: function.file_offset + offset,
        instruction: prologue::name(&function.code, offset),
        emulated,
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> ProbeError {
    move |source| ProbeError::File { path: path.display().to_string(), source }
}

fn body(function: &Function) -> Result<Vec<u8>, ProbeError> {
    let path: &Path = &function.open_path;
    let read = || {
        let mut bytes = vec![0; BODY];
        let n = File::open(path)?.read_at(&mut bytes, function.file_offset)?;
        bytes.truncate(n);
        Ok(bytes)
    };
    read().map_err(unreadable(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Addr;

    #[test]
    fn a_return_is_awaited_where_its_address_is_on_top() {
        // sub $0x18,%rsp; mov …(%rip),%rax; mov (%rax),%rax; test %rax,%rax; jne …: free of glibc 2.31
        let code = [
            0x48, 0x83, 0xec, 0x18, 0x48, 0x8b, 0x05, 0xdd, 0x7a, 0x14, 0, 0x48, 0x8b, 0, 0x48,
            0x85, 0xc0, 0x0f, 0x85, 0x81, 0, 0, 0,
        ];
        let code = code.to_vec();
        let function =
            Function { addr: Addr(0), open_path: PathBuf::new(), file_offset: 0x100, code };
        assert_eq!(probe("free_enter", &function).file_offset, 0x111);
        let entry = probe("malloc_enter", &function);
        assert_eq!(entry.file_offset, 0x100);
        let exits = exits(&function, &entry, Returns::Probes).unwrap().unwrap();
        assert_eq!(exits[0].file_offset, 0x100);
    }
}
