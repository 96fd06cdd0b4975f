//! The stack of this thread, as the kernel side would copy it.

use leak_common::event::{NATIVE_WHOLE, Registers};

use crate::target::memory::{Memory as _, ProcessMemory};
use crate::units::{Addr, Pid};

/// The registers of the caller, and a copy of the stack above them.
#[inline(never)]
pub(crate) fn capture(depth: u32) -> (Registers, Vec<u8>) {
    if depth > 0 {
        return std::hint::black_box(capture(depth - 1));
    }
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        std::arch::asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) ip, out(reg) sp, out(reg) bp);
    }
    let memory = ProcessMemory::new(Pid(std::process::id()));
    let mut bytes = Vec::new();
    let mut chunk = [0; 512];
    while bytes.len() < NATIVE_WHOLE
        && memory.read(Addr(sp).offset(bytes.len() as u64), &mut chunk).is_ok()
    {
        bytes.extend(chunk);
    }
    (Registers { ip, sp, bp }, bytes)
}
