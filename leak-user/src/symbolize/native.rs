//! Return addresses of compiled code: symbol, source line or module and offset.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use blazesym::symbolize::source::{Process, Source};
use blazesym::symbolize::{Input, Sym, Symbolized, Symbolizer};

use crate::units::{Addr, Pid};

/// Longest name of a function or file, in characters.
const MAX_NAME: usize = 500;

/// Addresses that are remembered; beyond that the cache starts anew.
const MAX_CACHED: usize = 1 << 16;

/// One frame of compiled code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NativeFrame {
    /// Demangled name; `module+0x1234` where there is no symbol, the address where there is no module.
    pub function: Arc<str>,
    /// The source file where debug information names it, else the module's path, else empty.
    pub file: Arc<str>,
    /// Line, 0 where unknown.
    pub line: u32,
}

/// Symbolizes addresses of one process.
#[derive(Debug)]
pub struct NativeSymbols {
    pid: Pid,
    symbolizer: Symbolizer,
    cache: HashMap<Addr, NativeFrame>,
}

impl NativeSymbols {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { pid, symbolizer: Symbolizer::new(), cache: HashMap::new() }
    }

    /// The frame of each return address, in the order given.
    ///
    /// A return address points behind the call; the byte before it is looked up. The files are read
    /// through `/proc/PID/map_files`, so deleted ones and those of a container work too. Reading a
    /// large file's debug information takes seconds: ask for what will be shown, all at once.
    pub fn resolve(&mut self, addrs: &[Addr]) -> Vec<NativeFrame> {
        let mut new: Vec<Addr> =
            addrs.iter().copied().filter(|addr| !self.cache.contains_key(addr)).collect();
        new.sort_unstable();
        new.dedup();
        if self.cache.len() + new.len() > MAX_CACHED {
            self.cache.clear();
        }
        if !new.is_empty() {
            let frames = self.look_up(&new);
            self.cache.extend(new.into_iter().zip(frames));
        }
        let known = |addr| self.cache.get(addr).cloned().unwrap_or_else(|| bare(*addr));
        addrs.iter().map(known).collect()
    }

    fn look_up(&self, addrs: &[Addr]) -> Vec<NativeFrame> {
        let modules = modules(self.pid);
        let calls: Vec<u64> = addrs.iter().map(|addr| addr.0.saturating_sub(1)).collect();
        let mut process = Process::new(self.pid.0.into());
        // The target writes the perf map itself: it would be believed.
        process.perf_map = false;
        let source = Source::from(process);
        // The ELF files are the target's: one that makes the parser panic must not end the report.
        let symbolized: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| {
            self.symbolizer.symbolize(&source, Input::AbsAddr(&calls)).ok()
        }));
        let symbolized = symbolized.ok().flatten().unwrap_or_default();
        let frame = |(i, addr): (usize, &Addr)| match symbolized.get(i) {
            Some(Symbolized::Sym(sym)) => from_symbol(sym),
            _ => in_module(&modules, *addr),
        };
        addrs.iter().enumerate().map(frame).collect()
    }
}

fn cut(text: &str) -> Arc<str> {
    text.chars().take(MAX_NAME).collect::<String>().into()
}

fn from_symbol(sym: &Sym<'_>) -> NativeFrame {
    let module = sym.module.as_ref().map(|module| module.to_string_lossy());
    match &sym.code_info {
        Some(code) => NativeFrame {
            function: cut(&sym.name),
            file: cut(&code.to_path().to_string_lossy()),
            line: code.line.unwrap_or(0),
        },
        None => NativeFrame {
            function: cut(&sym.name),
            file: cut(module.as_deref().unwrap_or_default()),
            line: 0,
        },
    }
}

/// A mapped stretch of a file.
struct Mapped {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

/// The mappings of files; empty where they can't be read.
fn modules(pid: Pid) -> Vec<Mapped> {
    use procfs::process::{MMapPath, Process};
    let maps = Process::new(pid.0.cast_signed()).and_then(|process| process.maps());
    let Ok(maps) = maps else { return Vec::new() };
    let mapped = |map: procfs::process::MemoryMap| match map.pathname {
        MMapPath::Path(path) => Some(Mapped {
            start: map.address.0,
            end: map.address.1,
            offset: map.offset,
            path: path.to_string_lossy().into_owned(),
        }),
        _ => None,
    };
    maps.into_iter().filter_map(mapped).collect()
}

fn in_module(modules: &[Mapped], addr: Addr) -> NativeFrame {
    let holds = |mapped: &&Mapped| (mapped.start..mapped.end).contains(&addr.0);
    let Some(mapped) = modules.iter().find(holds) else { return bare(addr) };
    let name = mapped.path.rsplit('/').next().unwrap_or(&mapped.path);
    let offset = (addr.0 - mapped.start).wrapping_add(mapped.offset);
    NativeFrame { function: cut(&format!("{name}+{offset:#x}")), file: cut(&mapped.path), line: 0 }
}

fn bare(addr: Addr) -> NativeFrame {
    NativeFrame { function: addr.to_string().into(), file: "".into(), line: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::{Python, interpreters};

    #[inline(never)]
    fn landmark() -> u64 {
        std::hint::black_box(landmark as fn() -> u64 as usize as u64)
    }

    #[test]
    fn names_functions_of_this_process() {
        let mut symbols = NativeSymbols::new(Pid(std::process::id()));
        let addr = Addr(landmark() + 1);
        let frames = symbols.resolve(&[addr, Addr(1), addr]);
        assert!(frames[0].function.ends_with("landmark"), "{frames:?}");
        assert!(frames[0].file.ends_with("native.rs") && frames[0].line > 100, "{frames:?}");
        assert_eq!(frames[1], bare(Addr(1)));
        assert_eq!(frames[0], frames[2]);
        assert_eq!(symbols.cache.len(), 2);
    }

    #[test]
    fn names_exported_functions_of_live_interpreters() {
        let program = "
import ctypes, sys
f = ctypes.cast(ctypes.pythonapi.PyObject_Malloc, ctypes.c_void_p).value
print(f + 4)
sys.stdin.readline()
";
        for (exe, _) in interpreters() {
            let mut python = Python::run(&exe, program);
            let addr = Addr(python.numbers()[0]);
            let frame = NativeSymbols::new(python.pid()).resolve(&[addr]).remove(0);
            assert_eq!(&*frame.function, "PyObject_Malloc", "{}: {frame:?}", exe.display());
        }
    }

    #[test]
    fn without_a_symbol_the_module_is_named() {
        let path = "/usr/lib/libx.so.1".to_owned();
        let modules = [Mapped { start: 0x1000, end: 0x2000, offset: 0x500, path }];
        let frame = in_module(&modules, Addr(0x1010));
        assert_eq!(&*frame.function, "libx.so.1+0x510");
        assert_eq!(&*frame.file, "/usr/lib/libx.so.1");
        assert_eq!(in_module(&modules, Addr(0x2000)), bare(Addr(0x2000)));
    }

    #[test]
    fn a_process_that_is_gone_gives_addresses() {
        let frames = NativeSymbols::new(Pid(i32::MAX as u32)).resolve(&[Addr(0x1234)]);
        assert_eq!(frames, [bare(Addr(0x1234))]);
    }
}
