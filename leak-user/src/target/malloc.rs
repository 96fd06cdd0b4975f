//! The heap that the interpreter's `malloc` leads to: the C library's, or one put in its place.
//!
//! Which one it is, the dynamic linker has decided, and written into the interpreter's slot for
//! `malloc`. Where that tells nothing, the linker's own list of files does, since the first one that has
//! a `malloc` is taken for all.

use std::rc::Rc;

use memchr::memmem;

use super::files::{Files, Loaded};
use super::link_map;
use super::memory::Memory;
use super::{AddressRange, EntryPoint, Heap, Role};
use crate::units::Addr;

/// How much of the C library is searched for its version.
const MAX_FILE: u64 = 16 << 20;

/// The functions through which blocks come and go. C++ has its own in an allocator's file alone: those of
/// the C++ library call malloc and free.
const ENTRY_POINTS: [(&str, Role); 32] = [
    ("malloc", Role::Malloc),
    ("free", Role::Free),
    ("calloc", Role::Calloc),
    ("realloc", Role::Realloc),
    ("posix_memalign", Role::PosixMemalign),
    ("aligned_alloc", Role::Memalign),
    ("memalign", Role::Memalign),
    ("valloc", Role::Malloc),
    ("pvalloc", Role::Malloc),
    ("cfree", Role::Free),
    ("free_sized", Role::Free),
    ("free_aligned_sized", Role::Free),
    // operator new(size_t), new[], nothrow, aligned.
    ("_Znwm", Role::Malloc),
    ("_Znam", Role::Malloc),
    ("_ZnwmRKSt9nothrow_t", Role::Malloc),
    ("_ZnamRKSt9nothrow_t", Role::Malloc),
    ("_ZnwmSt11align_val_t", Role::Malloc),
    ("_ZnamSt11align_val_t", Role::Malloc),
    ("_ZnwmSt11align_val_tRKSt9nothrow_t", Role::Malloc),
    ("_ZnamSt11align_val_tRKSt9nothrow_t", Role::Malloc),
    // operator delete(void*), delete[], sized, nothrow, aligned.
    ("_ZdlPv", Role::Free),
    ("_ZdaPv", Role::Free),
    ("_ZdlPvm", Role::Free),
    ("_ZdaPvm", Role::Free),
    ("_ZdlPvRKSt9nothrow_t", Role::Free),
    ("_ZdaPvRKSt9nothrow_t", Role::Free),
    ("_ZdlPvSt11align_val_t", Role::Free),
    ("_ZdaPvSt11align_val_t", Role::Free),
    ("_ZdlPvmSt11align_val_t", Role::Free),
    ("_ZdaPvmSt11align_val_t", Role::Free),
    ("_ZdlPvSt11align_val_tRKSt9nothrow_t", Role::Free),
    ("_ZdaPvSt11align_val_tRKSt9nothrow_t", Role::Free),
];

/// Functions that allocators have beside the usual ones, and whose they are.
const SIGNATURES: [(&str, &str); 8] = [
    ("mallctl", "jemalloc"),
    ("je_mallctl", "jemalloc"),
    ("tc_version", "tcmalloc (gperftools)"),
    ("MallocExtension_Internal_GetStats", "tcmalloc (Google)"),
    ("TCMalloc_Internal_GetStats", "tcmalloc (Google)"),
    ("mi_version", "mimalloc"),
    ("rpmalloc", "rpmalloc"),
    ("scalable_malloc", "tbbmalloc"),
];

/// Finds it. `python`: the interpreter's file, where it is known.
#[must_use]
pub fn find(files: &Files, memory: &impl Memory, python: Option<&Loaded>) -> Option<Heap> {
    let has_malloc = |file: &Rc<Loaded>| file.exported("malloc").is_some();
    let first = || link_map::files(files, memory).into_iter().find(has_malloc);
    let bound = || bound(files, memory, python?);
    let file = bound().or_else(first).or_else(|| named(files))?;
    let mut heap = heap(&file)?;
    if python.is_some_and(|python| file.module.path == python.module.path) {
        // The same code maps memory for other ends as well.
        heap.code = None;
    }
    Some(heap)
}

/// Other files than the heap's and the C library's that have a `malloc` of their own: what is allocated
/// there is not seen.
pub fn others<'a>(files: &'a Files, heap: Option<&'a Heap>) -> impl Iterator<Item = String> + 'a {
    let mappings = files.with_code().filter(move |mapping| {
        heap.is_none_or(|heap| heap.path != mapping.path)
            && !is_c_library(mapping.file_name())
            && !mapping.file_name().starts_with("ld-")
    });
    mappings.filter_map(|mapping| {
        let file = files.open(mapping).ok()?;
        let names = ["malloc", "je_malloc", "mi_malloc", "tc_malloc"];
        names.iter().any(|name| file.exported(name).is_some()).then(|| mapping.path.clone())
    })
}

/// The file to which the dynamic linker has bound the interpreter's `malloc`.
fn bound(files: &Files, memory: &impl Memory, python: &Loaded) -> Option<Rc<Loaded>> {
    let slots = python.elf.import_slots("malloc");
    slots.into_iter().find_map(|slot| {
        let bound = memory.pointer(Addr(slot).offset(python.module.bias)).ok()?;
        // A slot not yet bound points back into the interpreter's own linkage table, one that a tool has
        // put itself into to the tool, which passes calls on.
        files.at(bound).filter(|file| file.exported("malloc") == Some(bound))
    })
}

fn is_c_library(file_name: &str) -> bool {
    ["libc.so.", "libc-2.", "ld-musl-", "libc.musl-"].iter().any(|name| file_name.starts_with(name))
}

fn named(files: &Files) -> Option<Rc<Loaded>> {
    let mapping = files.with_code().find(|mapping| is_c_library(mapping.file_name()))?;
    files.open(mapping).ok()
}

fn heap(file: &Loaded) -> Option<Heap> {
    let mut entry_points: Vec<EntryPoint> = Vec::new();
    for (name, role) in ENTRY_POINTS {
        // Two names of one function are one.
        if let Some(function) = file.exported_function(name)
            && !entry_points.iter().any(|known| known.function.addr == function.addr)
        {
            entry_points.push(EntryPoint { name, role, function });
        }
    }
    let has = |role| entry_points.iter().any(|entry_point| entry_point.role == role);
    let path = file.module.path.clone();
    let (name, glibc) = name(file);
    // All mappings come by one that stands in for mmap as well; musl's own calls don't go through its mmap.
    let maps_for_all = file.exported("mmap").is_some() && !is_c_library(file_name(file));
    let code = if glibc || maps_for_all { None } else { code(file) };
    (has(Role::Malloc) && has(Role::Free)).then_some(Heap {
        path,
        module: file.module.clone(),
        name,
        glibc,
        entry_points,
        code,
    })
}

/// Where its code lies in the target.
fn code(file: &Loaded) -> Option<AddressRange> {
    let bias = file.module.bias;
    let executable = file.module.segments.iter().find(|segment| segment.executable)?;
    let start = Addr(executable.address).offset(bias);
    Some(AddressRange { start, end: start.offset(executable.memory_size) })
}

fn file_name(file: &Loaded) -> &str {
    file.module.path.rsplit('/').next().unwrap_or_default()
}

/// How it is called, and whether it is glibc's.
fn name(file: &Loaded) -> (String, bool) {
    let file_name = file_name(file);
    if file_name.contains("musl") {
        return ("musl".to_owned(), false);
    }
    if let Some((_, name)) = SIGNATURES.iter().find(|(sign, _)| file.exported(sign).is_some()) {
        return ((*name).to_owned(), false);
    }
    if file.exported("gnu_get_libc_version").is_some() {
        let version = glibc_version(&file.elf.start(MAX_FILE));
        let name = version.map_or_else(|| "glibc".to_owned(), |version| format!("glibc {version}"));
        return (name, true);
    }
    (format!("unknown allocator in {file_name}"), false)
}

/// From the banner: `GNU C Library (…) stable release version 2.36.`
fn glibc_version(bytes: &[u8]) -> Option<String> {
    const BANNER: usize = 200;
    let banner = bytes.get(memmem::find(bytes, b"GNU C Library (")?..)?;
    let banner = banner.get(..BANNER).unwrap_or(banner);
    let version = banner.get(memmem::find(banner, b" version ")? + 9..)?;
    let version: String = version
        .iter()
        .map(|&byte| char::from(byte))
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let version = version.trim_end_matches('.');
    (!version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_version_is_in_the_banner() {
        let text =
            b"\0\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n";
        assert_eq!(glibc_version(text).as_deref(), Some("2.36"));
        assert_eq!(glibc_version(b"GNU C Library (x) stable release version "), None);
        assert_eq!(glibc_version(b"musl libc"), None);
    }

    #[test]
    fn every_entry_point_is_named_once() {
        let names: HashSet<&str> = ENTRY_POINTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), ENTRY_POINTS.len());
    }
}
