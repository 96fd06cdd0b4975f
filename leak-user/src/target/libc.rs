//! The heap that the interpreter's `malloc` leads to: the C library's, or one put in its place.

use std::rc::Rc;

use memchr::memmem;

use super::files::{Files, Loaded};
use super::memory::Memory;
use super::{Function, LibcHeap};

/// How much of the C library is searched for its version.
const MAX_FILE: u64 = 16 << 20;
/// Functions that return aligned blocks.
const ALIGNED: [&str; 3] = ["posix_memalign", "aligned_alloc", "memalign"];
/// Allocators that are put in the C library's place, by their files' names.
const REPLACEMENTS: [&str; 4] = ["jemalloc", "tcmalloc", "mimalloc", "snmalloc"];

/// Finds it.
#[must_use]
pub fn find(files: &Files, memory: &impl Memory, python: &Loaded) -> Option<LibcHeap> {
    let file = linked(files, memory, python).or_else(|| named(files))?;
    let (name, glibc) = name(&file);
    let mut aligned: Vec<(&'static str, Function)> = Vec::new();
    for name in ALIGNED {
        if let Some(function) = file.exported_function(name)
            && !aligned.iter().any(|(_, known)| known.addr == function.addr)
        {
            aligned.push((name, function));
        }
    }
    Some(LibcHeap {
        path: file.module.path.clone(),
        module: file.module.clone(),
        name,
        glibc,
        malloc: file.exported_function("malloc")?,
        calloc: file.exported_function("calloc")?,
        realloc: file.exported_function("realloc")?,
        free: file.exported_function("free")?,
        aligned,
    })
}

/// The file to which the dynamic linker has bound the interpreter's `malloc`.
fn linked(files: &Files, memory: &impl Memory, python: &Loaded) -> Option<Rc<Loaded>> {
    let slots = python.elf.import_slots("malloc");
    slots.into_iter().find_map(|slot| {
        let slot = crate::units::Addr(slot).offset(python.module.bias);
        let bound = memory.pointer(slot).ok()?;
        // A slot not yet bound points back into the interpreter's own linkage table.
        files.at(bound).filter(|file| file.exported("malloc").is_some())
    })
}

fn named(files: &Files) -> Option<Rc<Loaded>> {
    let is_libc = |name: &str| {
        name.starts_with("libc.so.")
            || name.starts_with("libc-2.")
            || name.starts_with("ld-musl-")
            || name.starts_with("libc.musl-")
    };
    let mapping = files.with_code().find(|mapping| is_libc(mapping.file_name()))?;
    files.open(mapping).ok()
}

fn name(file: &Loaded) -> (String, bool) {
    let file_name = file.module.path.rsplit('/').next().unwrap_or_default();
    if file_name.contains("musl") {
        return ("musl".to_owned(), false);
    }
    if let Some(known) = REPLACEMENTS.iter().find(|known| file_name.contains(*known)) {
        return ((*known).to_owned(), false);
    }
    match glibc_version(&file.elf.start(MAX_FILE)) {
        Some(version) => (format!("glibc {version}"), true),
        None => (file_name.to_owned(), false),
    }
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

    #[test]
    fn the_version_is_in_the_banner() {
        let text =
            b"\0\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n";
        assert_eq!(glibc_version(text).as_deref(), Some("2.36"));
        assert_eq!(glibc_version(b"GNU C Library (x) stable release version "), None);
        assert_eq!(glibc_version(b"musl libc"), None);
    }
}
