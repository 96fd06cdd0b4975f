//! Return addresses of compiled code: symbol, source line or module and offset.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::modules::{Module, Modules};
use crate::snapshot;
use crate::units::Addr;

/// Longest name of a function or file, in characters.
const MAX_NAME: usize = 500;

/// Addresses that are remembered; beyond that the cache starts anew.
const MAX_CACHED: usize = 1 << 16;

/// Functions that one function may have been made of at an address.
const MAX_INLINED: usize = 16;

/// One frame of compiled code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NativeFrame {
    /// Demangled name; `module+0x1234` where there is no symbol, the address where there is no module.
    pub function: Arc<str>,
    /// The source file where debug information names it, else the module's path, else empty.
    pub file: Arc<str>,
    /// Line, 0 where unknown.
    pub line: u32,
    /// The path of the module, as the target sees it; empty where the code is in none.
    pub module: Arc<str>,
}

impl NativeFrame {
    /// As a report shows it.
    #[must_use]
    pub fn shown(&self) -> snapshot::Frame {
        snapshot::Frame {
            kind: snapshot::FrameKind::Native,
            function: self.function.to_string(),
            file: self.file.to_string(),
            line: self.line,
            module: (!self.module.is_empty()).then(|| self.module.to_string()),
            source: None,
        }
    }
}

/// Names the code of one process.
#[derive(Debug)]
pub struct NativeSymbols {
    symbolizer: Symbolizer,
    cache: HashMap<Addr, Vec<NativeFrame>>,
}

impl Default for NativeSymbols {
    fn default() -> Self {
        Self { symbolizer: Symbolizer::new(), cache: HashMap::new() }
    }
}

impl NativeSymbols {
    /// The frames of each return address, in the order given: the function's own, and before it those of the
    /// functions that the compiler has put into it, innermost first.
    ///
    /// A return address points behind the call; the byte before it is looked up. Reading a large file's debug
    /// information takes seconds: ask for what will be shown, all at once.
    pub fn resolve(&mut self, modules: &mut Modules, addrs: &[Addr]) -> Vec<Vec<NativeFrame>> {
        let mut new: Vec<Addr> =
            addrs.iter().copied().filter(|addr| !self.cache.contains_key(addr)).collect();
        new.sort_unstable();
        new.dedup();
        if self.cache.len() + new.len() > MAX_CACHED {
            self.cache.clear();
        }
        self.look_up(modules, &new);
        let known = |addr| self.cache.get(addr).cloned().unwrap_or_else(|| vec![bare(*addr)]);
        addrs.iter().map(known).collect()
    }

    /// Addresses in rising order, so that those of one module follow each other.
    fn look_up(&mut self, modules: &mut Modules, addrs: &[Addr]) {
        let mut of_module: Vec<(Module, Vec<Addr>)> = Vec::new();
        for addr in addrs {
            let call = Addr(addr.0.saturating_sub(1));
            match (of_module.last_mut(), modules.at(call)) {
                (Some((last, calls)), Some(module)) if last.range == module.range => {
                    calls.push(*addr);
                }
                (_, Some(module)) => of_module.push((module, vec![*addr])),
                (_, None) => _ = self.cache.insert(*addr, vec![bare(*addr)]),
            }
        }
        for (module, calls) in of_module {
            let frames = self.look_up_in(&module, &calls);
            self.cache.extend(calls.into_iter().zip(frames));
        }
    }

    fn look_up_in(&self, module: &Module, addrs: &[Addr]) -> Vec<Vec<NativeFrame>> {
        let bias = module.file.module.bias;
        let calls: Vec<u64> =
            addrs.iter().map(|a| a.0.wrapping_sub(1).wrapping_sub(bias)).collect();
        let source = Source::from(Elf::new(module.file.elf.open_path()));
        // The ELF files are the target's: one that makes the parser panic must not end the report.
        let symbolized: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| {
            self.symbolizer.symbolize(&source, Input::VirtOffset(&calls)).ok()
        }));
        let symbolized = symbolized.ok().flatten().unwrap_or_default();
        let frames = |(i, addr): (usize, &Addr)| match symbolized.get(i) {
            Some(Symbolized::Sym(sym)) => from_symbol(sym, &module.file.module.path),
            _ => vec![in_module(module, *addr)],
        };
        addrs.iter().enumerate().map(frames).collect()
    }
}

fn cut(text: &str) -> Arc<str> {
    text.chars().take(MAX_NAME).collect::<String>().into()
}

fn from_symbol(sym: &Sym<'_>, module: &str) -> Vec<NativeFrame> {
    let frame = |name: &str, code: Option<&CodeInfo<'_>>| NativeFrame {
        function: cut(name),
        file: code.map_or_else(|| cut(module), |code| cut(&code.to_path().to_string_lossy())),
        line: code.and_then(|code| code.line).unwrap_or(0),
        module: module.into(),
    };
    let inlined = sym.inlined.iter().rev();
    let inlined = inlined.take(MAX_INLINED).map(|call| frame(&call.name, call.code_info.as_ref()));
    inlined.chain([frame(&sym.name, sym.code_info.as_deref())]).collect()
}

fn in_module(module: &Module, addr: Addr) -> NativeFrame {
    let of_file = &module.file.module;
    let name = of_file.path.rsplit('/').next().unwrap_or(&of_file.path);
    let offset = addr.0.wrapping_sub(of_file.bias);
    let function = cut(&format!("{name}+{offset:#x}"));
    let module = of_file.path.as_str();
    NativeFrame { function, file: cut(module), line: 0, module: module.into() }
}

fn bare(addr: Addr) -> NativeFrame {
    NativeFrame { function: addr.to_string().into(), file: "".into(), line: 0, module: "".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::{Python, interpreters};
    use crate::units::Pid;

    #[inline(never)]
    fn landmark() -> u64 {
        std::hint::black_box(landmark as fn() -> u64 as usize as u64)
    }

    fn names(pid: Pid, addrs: &[Addr]) -> Vec<Vec<NativeFrame>> {
        NativeSymbols::default().resolve(&mut Modules::new(pid), addrs)
    }

    #[test]
    fn names_functions_of_this_process() {
        let addr = Addr(landmark() + 1);
        let frames = names(Pid(std::process::id()), &[addr, Addr(1), addr]);
        let of_landmark = frames[0].last().expect("a frame");
        assert!(of_landmark.function.ends_with("landmark"), "{frames:?}");
        assert!(of_landmark.file.ends_with("native.rs") && of_landmark.line > 100, "{frames:?}");
        assert_eq!(frames[1], [bare(Addr(1))]);
        assert_eq!(frames[0], frames[2]);
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
            let mut modules = Modules::new(python.pid());
            assert!(modules.at(addr).is_some());
            // The process has ended by the time that its code is named.
            drop(python);
            let frames = NativeSymbols::default().resolve(&mut modules, &[addr]).remove(0);
            let frame = frames.last().expect("a frame");
            assert_eq!(&*frame.function, "PyObject_Malloc", "{}: {frame:?}", exe.display());
        }
    }

    #[test]
    fn without_a_symbol_the_module_is_named() {
        let here = landmark as fn() -> u64 as usize as u64;
        let module = Modules::new(Pid(std::process::id())).at(Addr(here)).expect("own code");
        let of_file = &module.file.module;
        let frame = in_module(&module, Addr(of_file.bias.wrapping_add(0x510)));
        assert!(frame.function.ends_with("+0x510"), "{frame:?}");
        assert_eq!(*frame.file, *of_file.path);
    }

    #[test]
    fn a_process_that_is_gone_gives_addresses() {
        let frames = names(Pid(i32::MAX as u32), &[Addr(0x1234)]);
        assert_eq!(frames, [[bare(Addr(0x1234))]]);
    }
}
