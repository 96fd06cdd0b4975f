//! The files whose code shows up in stacks: each opened once, and kept open, so that addresses still have a
//! name when the process has unloaded the file, or has ended.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::target::{
    files::{Files, Loaded},
    maps::Mapping,
    process,
};
use crate::units::{Addr, Pid};

/// The process's map is read again at most so often.
const AGAIN: Duration = Duration::from_secs(1);

/// Files that are kept: more than any process loads.
const MAX_KNOWN: usize = 1 << 12;

/// A file, and where its code was mapped.
#[derive(Debug, Clone)]
pub struct Module {
    /// The addresses of its code.
    pub range: Range<u64>,
    /// The file.
    pub file: Rc<Loaded>,
}

/// The modules of a process, found as their addresses are asked for.
#[derive(Debug)]
pub struct Modules {
    pid: Pid,
    files: Files,
    /// When the map was read; None: not yet.
    read: Option<Instant>,
    known: Vec<Module>,
}

impl Modules {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { pid, files: Files::new(pid, Vec::new()), read: None, known: Vec::new() }
    }

    /// Reads the process's map, and says where its code is: that of files alone.
    pub fn code(&mut self) -> Vec<Range<Addr>> {
        self.read_map();
        self.files.code().map(|mapping| mapping.start..mapping.end).collect()
    }

    /// The files of the map as it was read last.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The module that holds a code address, now or, where nothing else has taken its place, earlier. None for
    /// code that is in no file.
    pub fn at(&mut self, addr: Addr) -> Option<Module> {
        if let Some(known) = self.known.iter().find(|module| module.range.contains(&addr.0)) {
            return Some(known.clone());
        }
        if let Some(found) = self.mapped(addr) {
            return Some(found);
        }
        // A library that was loaded since.
        if self.read.is_some_and(|read| read.elapsed() < AGAIN) {
            return None;
        }
        self.read_map();
        self.mapped(addr)
    }

    /// Looks an address up in the map as it was read last.
    fn mapped(&mut self, addr: Addr) -> Option<Module> {
        let mapping = self.files.code_at(addr)?;
        let range = mapping.start.0..mapping.end.0;
        let file = self.files.open(mapping).ok()?;
        let module = Module { range, file };
        if self.known.len() < MAX_KNOWN {
            self.known.push(module.clone());
        }
        Some(module)
    }

    fn read_map(&mut self) {
        self.read = Some(Instant::now());
        let Ok(mappings) = process::mappings(self.pid) else { return };
        // What another file has taken the place of.
        self.known.retain(|module| !is_replaced(module, &mappings));
        self.files = Files::new(self.pid, mappings);
    }
}

/// Does the code of another file lie where the module's was?
fn is_replaced(module: &Module, mappings: &[Mapping]) -> bool {
    let overlaps = |mapping: &&Mapping| {
        mapping.executable
            && mapping.start.0 < module.range.end
            && module.range.start < mapping.end.0
    };
    mappings.iter().filter(overlaps).any(|mapping| {
        mapping.start.0 != module.range.start || mapping.path != module.file.module.path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_of_this_code_and_none_for_the_heap() {
        let mut modules = Modules::new(Pid(std::process::id()));
        let here = finds_the_file_of_this_code_and_none_for_the_heap as fn() as usize as u64;
        let own = modules.at(Addr(here)).expect("own code");
        let exe = std::env::current_exe().expect("a path");
        assert_eq!(own.file.module.path, exe.to_str().expect("a plain path"));
        assert!(own.range.contains(&here));
        let data = Box::new(0_u64);
        assert!(modules.at(Addr((&raw const *data).addr() as u64)).is_none());
        assert_eq!(modules.known.len(), 1);
    }

    #[test]
    fn what_was_replaced_is_forgotten() {
        let mut modules = Modules::new(Pid(std::process::id()));
        let here = what_was_replaced_is_forgotten as fn() as usize as u64;
        let own = modules.at(Addr(here)).expect("own code");
        let mapping = |path: &str, start| Mapping {
            start: Addr(start),
            end: Addr(start + 4096),
            readable: true,
            writable: false,
            executable: true,
            offset: 0,
            file: None,
            path: path.to_owned(),
            deleted: false,
        };
        assert!(!is_replaced(&own, &[]));
        assert!(!is_replaced(&own, &[mapping("/lib/x.so", own.range.end)]));
        assert!(!is_replaced(&own, &[mapping(&own.file.module.path, own.range.start)]));
        assert!(is_replaced(&own, &[mapping("/lib/x.so", own.range.start)]));
        assert!(is_replaced(&own, &[mapping(&own.file.module.path, own.range.start + 4096)]));
    }
}
