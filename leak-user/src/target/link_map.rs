//! The dynamic linker's own list of the files that it has loaded, in the order in which it looks for
//! symbols: executable, preloaded libraries, libraries.
//!
//! Source: `struct r_debug` and `struct link_map` of `link.h`, the interface for debuggers, the same in
//! glibc and musl.

use std::rc::Rc;

use super::files::{Files, Loaded};
use super::memory::Memory;
use crate::units::Addr;

/// Files followed.
const MAX_FILES: usize = 4096;
/// `r_debug.r_map`.
const MAP: u64 = 8;
/// `link_map.l_ld`: the file's dynamic section, which lies in one of its mappings.
const DYNAMIC: u64 = 16;
/// `link_map.l_next`.
const NEXT: u64 = 24;

/// The files in the linker's order; none where its list can't be found.
pub fn files(files: &Files, memory: &impl Memory) -> Vec<Rc<Loaded>> {
    let Some(mut entry) = head(files, memory) else { return Vec::new() };
    let mut found = Vec::new();
    for _ in 0..MAX_FILES {
        if entry.is_null() {
            break;
        }
        let at = |offset| memory.pointer(entry.offset(offset));
        let (Ok(dynamic), Ok(next)) = (at(DYNAMIC), at(NEXT)) else { break };
        // The kernel's vdso is in the list, too, and no file.
        found.extend(files.with_data_at(dynamic));
        entry = next;
    }
    found
}

fn head(files: &Files, memory: &impl Memory) -> Option<Addr> {
    let is_linker = |name: &str| name.starts_with("ld-");
    let mapping = files.with_code().find(|mapping| is_linker(mapping.file_name()))?;
    let linker = files.open(mapping).ok()?;
    let debug = match linker.exported("_r_debug") {
        Some(debug) => debug,
        None => memory.pointer(linker.exported("_dl_debug_addr")?).ok()?,
    };
    memory.pointer(debug.offset(MAP)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::malloc;
    use crate::target::memory::ProcessMemory;
    use crate::target::process;
    use crate::units::Pid;

    #[test]
    fn the_list_of_this_process_begins_with_its_executable() {
        let pid = Pid(std::process::id());
        let (mapped, memory) = (process::mappings(pid).expect("own maps"), ProcessMemory::new(pid));
        let mapped = Files::new(pid, mapped);
        let paths: Vec<String> =
            files(&mapped, &memory).iter().map(|file| file.module.path.clone()).collect();
        let own = std::env::current_exe().expect("own path");
        assert_eq!(paths.first().map(String::as_str), own.to_str());
        assert!(paths.iter().any(|path| path.contains("libc.so")), "{paths:?}");
        // Without an interpreter whose slot would tell.
        let heap = malloc::find(&mapped, &memory, None).expect("a heap");
        assert!(heap.glibc && heap.name.starts_with("glibc 2."), "{heap:?}");
        assert_eq!(malloc::others(&mapped, Some(&heap)).next(), None);
    }
}
