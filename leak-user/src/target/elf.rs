//! A mapped ELF file: its segments, symbols, and bytes at an address.
//!
//! Only what is asked for is read, and never more than 128 MiB at once: the file may be made
//! by anyone.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use object::LittleEndian as LE;
use object::elf::{
    EM_X86_64, FileHeader64, PF_W, PF_X, PT_LOAD, ProgramHeader64, R_X86_64_64, R_X86_64_GLOB_DAT,
    R_X86_64_JUMP_SLOT, Rela64, SHN_UNDEF, SHT_DYNSYM, SHT_NOBITS, SHT_RELA, SHT_SYMTAB, STT_FUNC,
    STT_OBJECT, SectionHeader64, Sym64,
};
use object::pod::{from_bytes, slice_from_bytes};

use super::Segment;

/// The largest table read.
const MAX_TABLE: u64 = 128 << 20;

/// A file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not built for x86-64: what it is built for.
    #[error("not an x86-64 file: {0}")]
    OtherArchitecture(String),
    /// It is no ELF file, or a broken one.
    #[error("malformed ELF file: {0}")]
    Malformed(&'static str),
}

/// A symbol that the file defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// `st_value`: its ELF address.
    pub address: u64,
    /// `st_size`, 0 where unknown.
    pub size: u64,
}

/// An open ELF file.
#[derive(Debug)]
pub struct Elf {
    file: File,
    length: u64,
    segments: Vec<Segment>,
    sections: Vec<SectionHeader64<LE>>,
    section_names: Vec<u8>,
    exported: OnceCell<SymbolTable>,
    all: OnceCell<SymbolTable>,
    function_starts: OnceCell<Vec<u64>>,
}

impl Elf {
    /// Opens it.
    ///
    /// # Errors
    /// [`ElfError`].
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        // A mapped path may meanwhile name a pipe, which must not block.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ElfError::Malformed("not a regular file"));
        }
        Self::new(file, metadata.len())
    }

    fn new(file: File, length: u64) -> Result<Self, ElfError> {
        let bytes = read(&file, length, 0, size_of::<FileHeader64<LE>>() as u64)?;
        check_architecture(&bytes)?;
        let (header, _) = from_bytes::<FileHeader64<LE>>(&bytes)
            .map_err(|()| ElfError::Malformed("short header"))?;
        if usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
            return Err(ElfError::Malformed("size of a program header"));
        }
        let programs: Vec<ProgramHeader64<LE>> =
            table(&file, length, header.e_phoff.get(LE), header.e_phnum.get(LE).into())?;
        let segments = programs
            .iter()
            .filter(|program| program.p_type.get(LE) == PT_LOAD)
            .map(|program| segment(program, length))
            .collect::<Option<_>>()
            .ok_or(ElfError::Malformed("a segment beyond the end of the file"))?;
        // A file can run without section headers; it then has no symbols for us.
        let sections: Vec<SectionHeader64<LE>> =
            table(&file, length, header.e_shoff.get(LE), header.e_shnum.get(LE).into())
                .unwrap_or_default();
        let section_names = sections
            .get(usize::from(header.e_shstrndx.get(LE)))
            .and_then(|names| section_bytes(&file, length, names))
            .unwrap_or_default();
        Ok(Self {
            file,
            length,
            segments,
            sections,
            section_names,
            exported: OnceCell::new(),
            all: OnceCell::new(),
            function_starts: OnceCell::new(),
        })
    }

    /// Its PT_LOAD segments.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Up to `length` bytes of the file at an ELF address: fewer at the end of a segment, none
    /// outside them all.
    #[must_use]
    pub fn bytes(&self, address: u64, length: u64) -> Vec<u8> {
        let found = self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            let left = segment.file_size.checked_sub(into)?;
            let offset = segment.file_offset.checked_add(into)?;
            read(&self.file, self.length, offset, left.min(length)).ok()
        });
        found.unwrap_or_default()
    }

    /// The start of the file, up to `limit` bytes.
    #[must_use]
    pub fn start(&self, limit: u64) -> Vec<u8> {
        read(&self.file, self.length, 0, limit.min(self.length)).unwrap_or_default()
    }

    /// A symbol that other files can see (`.dynsym`).
    #[must_use]
    pub fn exported(&self, name: &str) -> Option<Symbol> {
        self.dynsym().find(name.as_bytes())
    }

    /// A symbol, exported or not; link-time optimization may have given it a suffix.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let name = name.as_bytes();
        self.dynsym()
            .find(name)
            .or_else(|| self.symtab().find(name))
            .or_else(|| self.symtab().find_renamed(name))
    }

    /// The address of a section.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<u64> {
        self.section_header(name).map(|section| section.sh_addr.get(LE))
    }

    fn section_header(&self, name: &str) -> Option<&SectionHeader64<LE>> {
        self.sections.iter().find(|section| {
            string(&self.section_names, section.sh_name.get(LE)) == Some(name.as_bytes())
        })
    }

    /// A section's address and bytes.
    #[must_use]
    pub fn section_data(&self, name: &str) -> Option<(u64, Vec<u8>)> {
        let section = self.section_header(name)?;
        Some((section.sh_addr.get(LE), section_bytes(&self.file, self.length, section)?))
    }

    /// A function and its parts: a compiler moves what is seldom run out of the function, under its name
    /// and a suffix (`.cold`).
    #[must_use]
    pub fn parts(&self, name: &str) -> Vec<Symbol> {
        let name = name.as_bytes();
        let is_part = |found: &[u8]| {
            found.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
        };
        let whole = self.dynsym().find(name);
        let further = self.symtab().all(is_part).filter(|part| Some(*part) != whole);
        whole.into_iter().chain(further).collect()
    }

    /// A path that leads to the open file, for as long as this lives, whatever becomes of its name.
    #[must_use]
    pub fn open_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The nearest function after an ELF address.
    #[must_use]
    pub fn next_function(&self, address: u64) -> Option<u64> {
        let starts = self.function_starts.get_or_init(|| {
            let symbols = self.dynsym().defined().chain(self.symtab().defined());
            let functions = symbols.filter(|symbol| is_kind(symbol, STT_FUNC));
            let mut starts: Vec<_> = functions.map(|symbol| symbol.st_value.get(LE)).collect();
            starts.sort_unstable();
            starts
        });
        starts.get(starts.partition_point(|&start| start <= address)).copied()
    }

    /// Where the dynamic linker has put the addresses of an imported (or interposable) function:
    /// ELF addresses of 8-byte slots.
    #[must_use]
    pub fn import_slots(&self, name: &str) -> Vec<u64> {
        let Some(index) = self.dynsym().index_of(name.as_bytes()) else { return Vec::new() };
        let relocations = self.sections.iter().filter(|s| s.sh_type.get(LE) == SHT_RELA);
        let mut slots = Vec::new();
        for section in relocations {
            let bytes = section_bytes(&self.file, self.length, section).unwrap_or_default();
            let (entries, _) =
                slice_from_bytes::<Rela64<LE>>(&bytes, bytes.len() / size_of::<Rela64<LE>>())
                    .unwrap_or((&[], &[]));
            slots.extend(
                entries
                    .iter()
                    .filter(|entry| {
                        let kind = entry.r_type(LE, false);
                        entry.r_sym(LE, false) as usize == index
                            && [R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT, R_X86_64_64].contains(&kind)
                    })
                    .map(|entry| entry.r_offset.get(LE)),
            );
        }
        slots
    }

    fn dynsym(&self) -> &SymbolTable {
        self.exported.get_or_init(|| self.symbols(SHT_DYNSYM))
    }

    fn symtab(&self) -> &SymbolTable {
        self.all.get_or_init(|| self.symbols(SHT_SYMTAB))
    }

    fn symbols(&self, kind: u32) -> SymbolTable {
        let found = self.sections.iter().find(|section| section.sh_type.get(LE) == kind);
        let loaded = found.and_then(|section| {
            let symbols = section_bytes(&self.file, self.length, section)?;
            let strings = self.sections.get(section.sh_link.get(LE) as usize)?;
            let strings = section_bytes(&self.file, self.length, strings)?;
            Some(SymbolTable { symbols, strings })
        });
        loaded.unwrap_or_default()
    }
}

fn check_architecture(header: &[u8]) -> Result<(), ElfError> {
    let Some((&[0x7f, b'E', b'L', b'F', class, endian], rest)) = header.split_first_chunk() else {
        return Err(ElfError::Malformed("no ELF header"));
    };
    let machine = match rest {
        [.., _] if rest.len() >= 14 => u16::from_le_bytes([rest[12], rest[13]]),
        _ => return Err(ElfError::Malformed("short header")),
    };
    match (class, endian, machine) {
        (2, 1, EM_X86_64) => Ok(()),
        (1, 1, EM_X86_64) => Err(ElfError::OtherArchitecture("an x32 file".into())),
        (1, ..) => Err(ElfError::OtherArchitecture("a 32-bit file".into())),
        (2, 1, machine) => Err(ElfError::OtherArchitecture(format!("for ELF machine {machine}"))),
        _ => Err(ElfError::OtherArchitecture("a big-endian file".into())),
    }
}

/// None where it reaches beyond the file or the address space.
fn segment(header: &ProgramHeader64<LE>, length: u64) -> Option<Segment> {
    let found = Segment {
        address: header.p_vaddr.get(LE),
        memory_size: header.p_memsz.get(LE),
        file_offset: header.p_offset.get(LE),
        file_size: header.p_filesz.get(LE),
        writable: header.p_flags.get(LE) & PF_W != 0,
        executable: header.p_flags.get(LE) & PF_X != 0,
    };
    found.address.checked_add(found.memory_size)?;
    let end = found.file_offset.checked_add(found.file_size)?;
    (end <= length).then_some(found)
}

fn read(file: &File, length: u64, offset: u64, size: u64) -> Result<Vec<u8>, ElfError> {
    let end = offset.checked_add(size).filter(|&end| end <= length && size <= MAX_TABLE);
    if end.is_none() {
        return Err(ElfError::Malformed("a table beyond the end of the file"));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn table<T: object::Pod>(
    file: &File,
    length: u64,
    offset: u64,
    count: usize,
) -> Result<Vec<T>, ElfError> {
    let bytes = read(file, length, offset, (count * size_of::<T>()) as u64)?;
    let (entries, _) =
        slice_from_bytes::<T>(&bytes, count).map_err(|()| ElfError::Malformed("a short table"))?;
    Ok(entries.to_vec())
}

fn section_bytes(file: &File, length: u64, header: &SectionHeader64<LE>) -> Option<Vec<u8>> {
    (header.sh_type.get(LE) != SHT_NOBITS)
        .then(|| read(file, length, header.sh_offset.get(LE), header.sh_size.get(LE)).ok())?
}

fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    rest.get(..memchr::memchr(0, rest)?)
}

fn is_kind(symbol: &Sym64<LE>, kind: u8) -> bool {
    symbol.st_info & 0xf == kind
}

#[derive(Debug, Default)]
struct SymbolTable {
    symbols: Vec<u8>,
    strings: Vec<u8>,
}

impl SymbolTable {
    fn entries(&self) -> &[Sym64<LE>] {
        let count = self.symbols.len() / size_of::<Sym64<LE>>();
        slice_from_bytes(&self.symbols, count).map_or(&[], |(entries, _)| entries)
    }

    /// Functions and variables that the file itself holds.
    fn defined(&self) -> impl Iterator<Item = &Sym64<LE>> {
        self.entries().iter().filter(|symbol| {
            symbol.st_shndx.get(LE) != SHN_UNDEF
                && (is_kind(symbol, STT_FUNC) || is_kind(symbol, STT_OBJECT))
        })
    }

    fn all(&self, matches: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Symbol> {
        self.defined()
            .filter(move |symbol| {
                string(&self.strings, symbol.st_name.get(LE)).is_some_and(&matches)
            })
            .map(|symbol| Symbol { address: symbol.st_value.get(LE), size: symbol.st_size.get(LE) })
    }

    fn first(&self, matches: impl Fn(&[u8]) -> bool) -> Option<Symbol> {
        self.all(matches).next()
    }

    fn find(&self, name: &[u8]) -> Option<Symbol> {
        self.first(|found| found == name)
    }

    /// `name.lto_priv.0`, but no part of a function (`name.cold`).
    fn find_renamed(&self, name: &[u8]) -> Option<Symbol> {
        self.first(|found| {
            found.strip_prefix(name).is_some_and(|rest| rest.starts_with(b".lto_priv"))
        })
    }

    fn index_of(&self, name: &[u8]) -> Option<usize> {
        self.entries().iter().position(|s| string(&self.strings, s.st_name.get(LE)) == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("own executable")
    }

    fn opened(bytes: &[u8]) -> Result<Elf, ElfError> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("room for a file");
        Elf::open(file.path())
    }

    #[test]
    fn reads_this_executable() {
        let elf = Elf::open(Path::new("/proc/self/exe")).expect("own executable");
        assert!(elf.segments().iter().any(|segment| segment.executable && !segment.writable));
        let main = elf.symbol("main").expect("a main function");
        let code = elf.bytes(main.address, 8);
        assert_eq!(code.len(), 8);
        assert!(elf.next_function(main.address).is_some_and(|next| next > main.address));
        assert!(elf.section(".text").is_some());
        assert!(elf.section(".no_such_section").is_none());
        // The test runner is linked dynamically and calls malloc.
        assert!(!elf.import_slots("malloc").is_empty());
        assert!(elf.exported("malloc").is_none(), "an import is no definition");
    }

    #[test]
    fn names_other_architectures() {
        let mut bytes = own();
        bytes.truncate(4096);
        bytes[18] = 183;
        assert!(
            matches!(opened(&bytes), Err(ElfError::OtherArchitecture(what)) if what.contains("183"))
        );
        bytes[4] = 1;
        assert!(
            matches!(opened(&bytes), Err(ElfError::OtherArchitecture(what)) if what.contains("32-bit"))
        );
        assert!(matches!(opened(b"#!/bin/sh\n"), Err(ElfError::Malformed(_))));
        assert!(matches!(opened(b""), Err(ElfError::Malformed(_))));
        assert!(matches!(Elf::open(Path::new("/dev/null")), Err(ElfError::Malformed(_))));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn survives_damage(flips: Vec<(u16, u8)>, keep in 0_usize..8192) {
            let mut bytes = vec![0; 8192];
            let file = File::open("/proc/self/exe").expect("own executable");
            file.read_exact_at(&mut bytes, 0).expect("8 KiB of it");
            for (at, byte) in flips {
                // The identification stays, so that the rest is looked at.
                bytes[20 + usize::from(at) % 8000] = byte;
            }
            bytes.truncate(keep);
            if let Ok(elf) = opened(&bytes) {
                let found = (elf.symbol("malloc"), elf.import_slots("malloc"), elf.next_function(0));
                proptest::prop_assert!(found.1.len() <= bytes.len());
                for segment in elf.segments() {
                    proptest::prop_assert!(elf.bytes(segment.address, u64::MAX).len() <= bytes.len());
                }
            }
        }
    }
}
