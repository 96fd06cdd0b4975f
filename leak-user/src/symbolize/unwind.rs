//! From the top of a thread's stack, copied by the kernel side, to return addresses.
//!
//! By the tables that compilers write for exceptions (`.eh_frame`), since most code keeps no frame pointers.
//! The unwinding itself is framehop's; here are the tables of the right files, and bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};
use leak_common::event::Registers;

use super::modules::{Module, Modules};
use crate::units::Addr;

/// Calls in one stack, where not said otherwise.
const MAX_CALLS: usize = 256;

/// Bytes of tables that are held for all files together. A large library's take 20 MB.
const MAX_TABLES: usize = 256 << 20;

/// A native stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeStack {
    /// Where the thread was, then where each caller goes on.
    pub calls: Vec<Addr>,
    /// It goes to the thread's start; else it ends where the copy did, or where code has no tables.
    pub whole: bool,
}

/// Unwinds stacks of one process.
pub struct Unwinder {
    tables: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
    /// The modules whose tables are loaded, and whose have none.
    loaded: Vec<Module>,
    /// Bytes of tables held.
    held: usize,
    spent: Duration,
    max_calls: usize,
}

impl Default for Unwinder {
    fn default() -> Self {
        Self::new(MAX_CALLS)
    }
}

impl Unwinder {
    /// Holds no tables yet. `max_calls`: of one stack.
    #[must_use]
    pub fn new(max_calls: usize) -> Self {
        Self {
            tables: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
            loaded: Vec::new(),
            held: 0,
            spent: Duration::ZERO,
            max_calls,
        }
    }

    /// The calls of a stack whose top is `bytes`, from the stack pointer upwards.
    pub fn unwind(
        &mut self,
        modules: &mut Modules,
        registers: Registers,
        bytes: &[u8],
    ) -> NativeStack {
        let begun = Instant::now();
        // The tables are the target's: those that make a parser panic must not end the observation.
        let unwound = catch_unwind(AssertUnwindSafe(|| self.walk(modules, registers, bytes)));
        let nothing = NativeStack { calls: vec![Addr(registers.ip)], whole: false };
        self.spent += begun.elapsed();
        unwound.unwrap_or(nothing)
    }

    /// The time that all of it took.
    #[must_use]
    pub fn spent(&self) -> Duration {
        self.spent
    }

    fn walk(&mut self, modules: &mut Modules, registers: Registers, bytes: &[u8]) -> NativeStack {
        let mut read_stack = |addr: u64| {
            let at = usize::try_from(addr.wrapping_sub(registers.sp)).map_err(drop)?;
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(())?;
            Ok(u64::from_le_bytes(*word))
        };
        let mut regs = UnwindRegsX86_64::new(registers.ip, registers.sp, registers.bp);
        let mut at = FrameAddress::InstructionPointer(registers.ip);
        let mut stack = NativeStack { calls: vec![Addr(registers.ip)], whole: false };
        while stack.calls.len() < self.max_calls {
            // Code in no file (a JIT's) has no tables: what would be found beyond it is a guess.
            if !self.load(modules, at.address_for_lookup()) {
                break;
            }
            match self.tables.unwind_frame(at, &mut regs, &mut self.cache, &mut read_stack) {
                Ok(Some(address)) => {
                    let Some(next) = FrameAddress::from_return_address(address) else { break };
                    stack.calls.push(Addr(address));
                    at = next;
                }
                Ok(None) => {
                    stack.whole = true;
                    break;
                }
                Err(_) => break,
            }
        }
        stack
    }

    /// Makes sure that the tables for an address are there.
    fn load(&mut self, modules: &mut Modules, address: u64) -> bool {
        let Some(module) = modules.at(Addr(address)) else { return false };
        let known = self.loaded.iter().position(|known| known.range.contains(&address));
        if let Some(known) = known {
            if self.loaded[known].range == module.range {
                return true;
            }
            // Another file has taken its place.
            self.tables.remove_module(self.loaded[known].range.start);
            self.loaded.swap_remove(known);
        }
        let section = |name: &str| module.file.elf.section_data(name).unzip();
        let (eh_frame_at, eh_frame) = section(".eh_frame");
        let (header_at, header) = section(".eh_frame_hdr");
        let size = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, Vec::len);
        let bytes = size(&eh_frame) + size(&header);
        if self.held + bytes > MAX_TABLES {
            return false;
        }
        self.held += bytes;
        let range = |start: Option<u64>, data: &Option<Vec<u8>>| {
            start.map(|start| start..start.saturating_add(size(data) as u64))
        };
        let sections = ExplicitModuleSectionInfo {
            eh_frame_svma: range(eh_frame_at, &eh_frame),
            eh_frame_hdr_svma: range(header_at, &header),
            eh_frame,
            eh_frame_hdr: header,
            ..ExplicitModuleSectionInfo::default()
        };
        let of_file = &module.file.module;
        let tables = framehop::Module::new(
            of_file.path.clone(),
            module.range.clone(),
            of_file.bias,
            sections,
        );
        self.tables.add_module(tables);
        self.loaded.push(module);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::testing::capture;
    use crate::units::Pid;

    #[test]
    fn unwinds_this_thread_to_its_start() {
        let mut modules = Modules::new(Pid(std::process::id()));
        let mut unwinder = Unwinder::default();
        let lengths = [0, 5].map(|depth| {
            let (registers, bytes) = capture(depth);
            let stack = unwinder.unwind(&mut modules, registers, &bytes);
            assert!(stack.whole, "{stack:?}");
            stack.calls.len()
        });
        assert_eq!(lengths[1], lengths[0] + 5);
    }

    #[test]
    fn a_stack_that_ends_early_gives_what_there_is() {
        let mut modules = Modules::new(Pid(std::process::id()));
        let mut unwinder = Unwinder::default();
        let (registers, bytes) = capture(3);
        let whole = unwinder.unwind(&mut modules, registers, &bytes);
        for length in (0..bytes.len()).step_by(64) {
            let cut = unwinder.unwind(&mut modules, registers, &bytes[..length]);
            assert!(whole.calls.starts_with(&cut.calls), "{length}");
        }
        let nothing = unwinder.unwind(&mut modules, registers, &[]);
        assert_eq!((nothing.calls.len(), nothing.whole), (1, false));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_survived(bytes: Vec<u8>, sp: u64, bp: u64, ip: u64) {
            let mut modules = Modules::new(Pid(std::process::id()));
            let mut unwinder = Unwinder::default();
            let own = capture as fn(u32) -> (Registers, Vec<u8>) as usize as u64;
            for ip in [ip, own + ip % 64] {
                let stack = unwinder.unwind(&mut modules, Registers { ip, sp, bp }, &bytes);
                proptest::prop_assert!((1..=MAX_CALLS).contains(&stack.calls.len()));
            }
        }
    }
}
