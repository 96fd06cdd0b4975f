//! The C library's heap: malloc, calloc, realloc, free, posix_memalign, aligned_alloc, memalign.
//!
//! The result is known at return only: the entry leaves the call in [`PENDING`], the return probe
//! books it.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_get_current_pid_tgid,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use leak_common::{
    counters::Counter,
    keys::{Pending, SiteKey, domain, size_class},
};

use crate::{
    gate::{self, Open},
    live,
    maps::{self, PENDING},
    native, python, user,
};

/// malloc(size)
#[uprobe]
pub fn malloc_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg(0)?, 0, 0)))
}

/// calloc(n, size)
#[uprobe]
pub fn calloc_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg::<u64>(0)?.wrapping_mul(ctx.arg(1)?), 0, 0)))
}

/// realloc(block, size)
#[uprobe]
pub fn realloc_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg(1)?, 0, ctx.arg(0)?)))
}

/// memalign(alignment, size), aligned_alloc(alignment, size)
#[uprobe]
pub fn memalign_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg(1)?, 0, 0)))
}

/// posix_memalign(&block, alignment, size)
#[uprobe]
pub fn posix_memalign_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg(2)?, ctx.arg(0)?, 0)))
}

/// free(block)
#[uprobe]
pub fn free_enter(ctx: ProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        if let Some(block) = ctx.arg::<u64>(0) {
            if block != 0 {
                live::freed(block);
            }
        }
        open.leave();
    }
    0
}

/// All of them but free: the block is returned, or stored where posix_memalign was told.
#[uretprobe]
pub fn malloc_exit(ctx: RetProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        exit(&open, ctx.ret());
        open.leave_return();
    }
    0
}

/// `arguments` gives size, out pointer and released block.
#[inline(always)]
fn enter(ctx: &ProbeContext, arguments: impl Fn(&ProbeContext) -> Option<(u64, u64, u64)>) -> u32 {
    let Some(open) = gate::enter() else { return 0 };
    if let Some((size, out_pointer, released)) = arguments(ctx) {
        let thread = bpf_get_current_pid_tgid();
        let stack = python::stack_id();
        let site = SiteKey {
            stack,
            native: native::stack_id(stack, native::registers(ctx.regs)),
            domain: domain::MALLOC,
            size_class: size_class(size),
        };
        let pending = Pending { site, size, out_pointer, released, burst: open.burst };
        if PENDING.insert(thread, pending, u64::from(BPF_ANY)).is_err() {
            maps::count(Counter::MapFull);
        }
    }
    open.leave();
    0
}

/// Forgets the call that a thread which ends was in.
#[inline(always)]
pub fn forget(thread: u64) {
    // Not there: nothing to forget.
    let _ = PENDING.remove(thread);
}

#[inline(always)]
fn exit(open: &Open, result: u64) {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its entry.
    let Some(pending) = (unsafe { PENDING.get(thread) }).copied() else {
        maps::count(Counter::UnmatchedReturn);
        return;
    };
    if PENDING.remove(thread).is_err() {
        return;
    }
    // The call of an earlier burst, which ended before the call did.
    if pending.burst != open.burst {
        maps::count(Counter::UnmatchedReturn);
        return;
    }
    let block = if pending.out_pointer == 0 {
        result
    } else if result == 0 {
        match user::pointer(pending.out_pointer) {
            Some(block) => block,
            None => {
                maps::count(Counter::ReadFault);
                return;
            }
        }
    } else {
        return;
    };
    // A failed realloc leaves the old block; realloc to 0 bytes frees it and returns NULL.
    if pending.released != 0 && (block != 0 || pending.size == 0) {
        live::freed(pending.released);
    }
    if block != 0 {
        live::allocated(open, &pending.site, block, pending.size);
    }
}
