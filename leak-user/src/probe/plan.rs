//! Which program goes where: the probe table of a target, as data.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    budget::Kind,
    error::ProbeError,
    prologue::{self, Point},
};
use crate::target::{AllocatorFunctions, AllocatorKind, Function, Target};

/// One program at one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The eBPF program.
    pub program: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Offset in it.
    pub file_offset: u64,
    /// The kernel emulates the instruction there.
    pub emulated: bool,
}

/// All that is attached in a burst, and how the programs must be configured for it.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Probes of pymalloc.
    pub pymalloc: Vec<Probe>,
    /// Probes of the C library's heap.
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

/// Makes the plan. `return_probes`: whether they can be placed without harm to the target.
///
/// # Errors
/// [`ProbeError::File`] where the interpreter's file can't be read.
pub fn plan(target: &Target, return_probes: bool) -> Result<Plan, ProbeError> {
    let mut plan = Plan::default();
    let allocators = &target.python.allocators;
    if allocators.kind == AllocatorKind::Pymalloc && target.python.pymalloc.is_some() {
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
    match &target.libc {
        Some(libc) if return_probes => {
            let one = |program, function: &Function| probe(program, function);
            plan.malloc = vec![
                one("malloc_enter", &libc.malloc),
                one("calloc_enter", &libc.calloc),
                one("realloc_enter", &libc.realloc),
                one("free_enter", &libc.free),
            ];
            for (name, function) in &libc.aligned {
                let program = if *name == "posix_memalign" {
                    "posix_memalign_enter"
                } else {
                    "memalign_enter"
                };
                plan.malloc.push(one(program, function));
            }
            let returning: Vec<_> = plan
                .malloc
                .iter()
                .filter(|p| p.program != "free_enter")
                .map(|p| Probe { program: "malloc_exit", ..p.clone() })
                .collect();
            plan.malloc.extend(returning);
        }
        Some(_) => plan.unseen.push(
            "the C library's heap: this kernel's return probes could make the target's seccomp \
             filter kill it, so none is placed"
                .to_owned(),
        ),
        None => plan.unseen.push("the C library's heap: its functions were not found".to_owned()),
    }
    if allocators.kind == AllocatorKind::Other {
        plan.unseen
            .push("small Python objects: an allocator that leaktrace does not know".to_owned());
    }
    Ok(plan)
}

fn pymalloc(functions: &AllocatorFunctions) -> Vec<Probe> {
    vec![
        probe("pymalloc_malloc", &functions.malloc),
        probe("pymalloc_calloc", &functions.calloc),
        probe("pymalloc_realloc", &functions.realloc),
        probe("pymalloc_free", &functions.free),
    ]
}

/// A program at the cheapest instruction of a function.
pub(super) fn probe(program: &'static str, function: &Function) -> Probe {
    let Point { offset, emulated } = prologue::choose(&function.code);
    Probe {
        program,
        path: function.open_path.clone(),
        file_offset: function.file_offset + offset,
        emulated,
    }
}

fn body(function: &Function) -> Result<Vec<u8>, ProbeError> {
    let path: &Path = &function.open_path;
    let read = || {
        let mut bytes = vec![0; BODY];
        let n = File::open(path)?.read_at(&mut bytes, function.file_offset)?;
        bytes.truncate(n);
        Ok(bytes)
    };
    read().map_err(|source| ProbeError::File { path: path.display().to_string(), source })
}
