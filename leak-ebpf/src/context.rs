//! What a probe is given.

use aya_ebpf::{EbpfContext, bindings::pt_regs};

/// The registers of the thread that hit the probe.
#[inline(always)]
pub fn registers(ctx: &impl EbpfContext) -> &pt_regs {
    // SAFETY: the kernel hands a valid pt_regs to the program.
    unsafe { &*ctx.as_ptr().cast::<pt_regs>() }
}
