//! Where the target has the calls of [`super::calls`].

use std::rc::Rc;

use leak_common::gpu::Call;

use super::calls::{Library, ROWS};
use crate::target::{
    AddressRange, Function,
    files::{Files, Loaded},
};

/// The file with torch's allocator for GPUs, which asks for segments and hands them out in parts.
const TORCH_ALLOCATORS: [&str; 2] = ["libc10_cuda.so", "libc10_hip.so"];

/// A call, found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where.
    pub function: Function,
    /// Its row.
    pub call: Call,
    /// The program at its entry.
    pub program: &'static str,
    /// Another is wanted at its return.
    pub returns: bool,
}

/// A library of the target's.
#[derive(Debug)]
pub struct Loads {
    /// Which.
    pub library: Library,
    /// Its file.
    pub file: Rc<Loaded>,
}

/// The libraries that the target has loaded.
pub fn loaded(files: &Files) -> Vec<Loads> {
    let libraries = files.with_code().filter_map(|mapping| {
        let library = Library::of(mapping.file_name())?;
        Some(Loads { library, file: files.open(mapping).ok()? })
    });
    libraries.collect()
}

impl Loads {
    /// Its calls. Two names of one function are one call.
    #[must_use]
    pub fn calls(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for (number, row) in (0..).zip(&ROWS).filter(|(_, row)| row.library == self.library) {
            let Some(function) = self.file.exported_function(row.symbol) else { continue };
            if found.iter().all(|known| known.function.addr != function.addr) {
                let (program, returns) = row.programs();
                found.push(Found { function, call: row.call(number), program, returns });
            }
        }
        found
    }
}

/// Where the code of torch's allocator for GPUs lies.
#[must_use]
pub fn torch_code(files: &Files) -> Option<AddressRange> {
    let mut code = files.with_code();
    let mapping = code.find(|mapping| TORCH_ALLOCATORS.contains(&mapping.file_name()))?;
    Some(AddressRange { start: mapping.start, end: mapping.end })
}
