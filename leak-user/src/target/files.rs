//! The files that the process has mapped, opened once each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use super::decode;
use super::elf::{Elf, ElfError, Symbol};
use super::error::TargetError;
use super::frame_table;
use super::maps::{self, FileId, Mapping};
use super::process::proc_path;
use super::{Function, Module};
use crate::units::{Addr, Pid};

/// How much of a function's code is searched for its further parts.
const MAX_FUNCTION: u64 = 256 << 10;

/// How much of a function's code is kept.
const CODE: u64 = 128;

/// A mapped ELF file, open.
#[derive(Debug)]
pub struct Loaded {
    /// Where it lies.
    pub module: Module,
    /// What is in it.
    pub elf: Elf,
}

impl Loaded {
    /// The address in the target of a symbol, exported or not.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Addr> {
        self.elf.symbol(name).map(|symbol| Addr(symbol.address).offset(self.module.bias))
    }

    /// The address in the target of an exported symbol.
    #[must_use]
    pub fn exported(&self, name: &str) -> Option<Addr> {
        self.elf.exported(name).map(|symbol| Addr(symbol.address).offset(self.module.bias))
    }

    /// The addresses in the target of a function's code: the parts that its symbols name, and those that they
    /// lead to.
    #[must_use]
    pub fn code_parts(&self, name: &str) -> Vec<Range<Addr>> {
        let range = |part: Symbol| {
            let next = || self.elf.next_function(part.address).map(|next| next - part.address);
            let size = if part.size > 0 { Some(part.size) } else { next() };
            part.address..part.address.saturating_add(size.unwrap_or(0))
        };
        let mut parts: Vec<Range<u64>> = self.elf.parts(name).into_iter().map(range).collect();
        let table = self.elf.section_data(".eh_frame_hdr");
        if let (Some(first), Some((at, table))) = (parts.first().cloned(), table) {
            let code = self.elf.bytes(first.start, (first.end - first.start).min(MAX_FUNCTION));
            for target in decode::moved_parts(&code, first.start) {
                if !parts.iter().any(|part| part.contains(&target)) {
                    parts.extend(frame_table::function_at(&table, at, target));
                }
            }
        }
        let in_target = |address| Addr(address).offset(self.module.bias);
        parts.into_iter().map(|part| in_target(part.start)..in_target(part.end)).collect()
    }

    /// The function that starts at an address in the target.
    #[must_use]
    pub fn function(&self, addr: Addr) -> Option<Function> {
        let address = addr.0.wrapping_sub(self.module.bias);
        let length =
            self.elf.next_function(address).map_or(CODE, |next| (next - address).min(CODE));
        Some(Function {
            addr,
            open_path: self.module.open_path.clone(),
            file_offset: self.module.file_offset(addr)?,
            code: self.elf.bytes(address, length),
        })
    }

    /// An exported function by its name.
    #[must_use]
    pub fn exported_function(&self, name: &str) -> Option<Function> {
        self.function(self.exported(name)?)
    }

    /// Address (in the target) and code of an exported function, whole where its size is known.
    #[must_use]
    pub fn code(&self, name: &str) -> Option<(Addr, Vec<u8>)> {
        let symbol = self.elf.exported(name)?;
        let size = if symbol.size == 0 { 256 } else { symbol.size.min(4096) };
        Some((Addr(symbol.address).offset(self.module.bias), self.elf.bytes(symbol.address, size)))
    }
}

/// All files that the process has mapped.
#[derive(Debug)]
pub struct Files {
    pid: Pid,
    mappings: Vec<Mapping>,
    open: RefCell<HashMap<FileId, Rc<Loaded>>>,
}

impl Files {
    /// From the process's mappings.
    #[must_use]
    pub fn new(pid: Pid, mappings: Vec<Mapping>) -> Self {
        Self { pid, mappings, open: RefCell::default() }
    }

    /// The executable mappings of files.
    pub fn code(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(|mapping| mapping.executable && mapping.file.is_some())
    }

    /// Files with code in them: the executable mapping of each.
    pub fn with_code(&self) -> impl Iterator<Item = &Mapping> {
        let mut seen = std::collections::HashSet::new();
        self.code().filter(move |mapping| mapping.file.is_some_and(|file| seen.insert(file)))
    }

    /// May the address be executed?
    #[must_use]
    pub fn is_code(&self, addr: Addr) -> bool {
        self.code_at(addr).is_some()
    }

    /// The mapping of code that holds an address.
    #[must_use]
    pub fn code_at(&self, addr: Addr) -> Option<&Mapping> {
        maps::at(&self.mappings, addr).filter(|mapping| mapping.executable)
    }

    /// Opens the file of an executable mapping.
    ///
    /// # Errors
    /// [`TargetError::Forbidden`], [`TargetError::Unreadable`], [`TargetError::OtherArchitecture`].
    pub fn open(&self, mapping: &Mapping) -> Result<Rc<Loaded>, TargetError> {
        let wrong = |e| TargetError::elf(&mapping.path, e);
        let id = mapping.file.ok_or_else(|| wrong(ElfError::Malformed("anonymous memory")))?;
        if let Some(loaded) = self.open.borrow().get(&id) {
            return Ok(Rc::clone(loaded));
        }
        let (open_path, elf) = self.open_path(mapping, id).map_err(wrong)?;
        let bias = bias(&elf, mapping)
            .ok_or_else(|| wrong(ElfError::Malformed("no segment where it is mapped")))?;
        let segments = elf.segments().to_vec();
        let module = Module { path: mapping.path.clone(), open_path, bias, segments };
        let loaded = Rc::new(Loaded { module, elf });
        self.open.borrow_mut().insert(id, Rc::clone(&loaded));
        Ok(loaded)
    }

    /// `map_files` gives the very file that is mapped, also when its name is gone or means another
    /// file by now, but takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; the path within the target's
    /// root is the way without.
    fn open_path(&self, mapping: &Mapping, id: FileId) -> Result<(PathBuf, Elf), ElfError> {
        let exact = format!("map_files/{:x}-{:x}", mapping.start.0, mapping.end.0);
        let exact = proc_path(self.pid, &exact);
        let denied = match Elf::open(&exact) {
            Ok(elf) => return Ok((exact, elf)),
            Err(ElfError::Io(e)) => ElfError::Io(e),
            Err(other) => return Err(other),
        };
        if mapping.deleted {
            return Err(denied);
        }
        // Paths are given as this process sees them where it can (a chroot), else from the root of
        // the target's own mount namespace (a container).
        let named = [proc_path(self.pid, &format!("root{}", mapping.path)), (&mapping.path).into()];
        for path in named {
            if std::fs::metadata(&path).is_ok_and(|metadata| metadata.ino() == id.inode) {
                let elf = Elf::open(&path)?;
                return Ok((path, elf));
            }
        }
        Err(denied)
    }

    /// The function that starts at an address.
    #[must_use]
    pub fn function(&self, addr: Addr) -> Option<Function> {
        self.at(addr)?.function(addr)
    }

    /// The file of which any part lies at an address.
    #[must_use]
    pub fn with_data_at(&self, addr: Addr) -> Option<Rc<Loaded>> {
        let file = maps::at(&self.mappings, addr)?.file?;
        let code = self.mappings.iter().find(|m| m.executable && m.file == Some(file))?;
        self.open(code).ok()
    }

    /// The file that holds a code address.
    #[must_use]
    pub fn at(&self, addr: Addr) -> Option<Rc<Loaded>> {
        self.open(self.code_at(addr)?).ok()
    }
}

/// What was added to the file's addresses: by the segment from which the mapping was made.
fn bias(elf: &Elf, mapping: &Mapping) -> Option<u64> {
    const PAGE: u64 = 4096;
    let segment = elf.segments().iter().find(|segment| {
        let first = segment.file_offset & !(PAGE - 1);
        segment.executable
            && first <= mapping.offset
            && mapping.offset < segment.file_offset + segment.file_size
    })?;
    let address = mapping.offset.wrapping_sub(segment.file_offset).wrapping_add(segment.address);
    Some(mapping.start.0.wrapping_sub(address))
}
