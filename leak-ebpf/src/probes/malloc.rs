//! The heap behind malloc: malloc, calloc, realloc, free, posix_memalign, aligned_alloc, memalign, and C++'s
//! new and delete where the allocator has its own.
//!
//! The result is known at return only: the entry leaves the call in [`PENDING`], the return probe
//! books it. Of calls within calls the outermost counts: the inner ones begin further down the stack.

use aya_ebpf::{
    EbpfContext,
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
    context::registers,
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
    free(ctx.arg(0))
}

/// malloc(ctx, size) of Python's allocator tables, where they name an allocator of their own.
#[uprobe]
pub fn table_malloc_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg(1)?, 0, 0)))
}

/// calloc(ctx, n, size), likewise.
#[uprobe]
pub fn table_calloc_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg::<u64>(1)?.wrapping_mul(ctx.arg(2)?), 0, 0)))
}

/// realloc(ctx, block, size), likewise.
#[uprobe]
pub fn table_realloc_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx, |ctx| Some((ctx.arg(2)?, 0, ctx.arg(1)?)))
}

/// free(ctx, block), likewise.
#[uprobe]
pub fn table_free_enter(ctx: ProbeContext) -> u32 {
    free(ctx.arg(1))
}

/// All of them but free: the block is returned, or stored where posix_memalign was told.
#[uretprobe]
pub fn malloc_exit(ctx: RetProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        // The return address has been taken from the stack.
        exit(&open, ctx.ret(), stack_pointer(&ctx).wrapping_sub(8), 1);
        open.leave_return();
    }
    0
}

/// The same at an instruction that returns, where no return probe may be placed. It may be the end of several
/// functions that jumped to each other, and of others that are not probed.
#[uprobe]
pub fn malloc_return(ctx: ProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        // SAFETY: only tested for presence.
        if unsafe { PENDING.get(bpf_get_current_pid_tgid()) }.is_some() {
            exit(&open, registers(&ctx).rax, stack_pointer(&ctx), u64::MAX);
        }
        open.leave_return();
    }
    0
}

#[inline(always)]
fn free(block: Option<u64>) -> u32 {
    if let Some(open) = gate::enter() {
        if let Some(block) = block.filter(|block| *block != 0) {
            live::gone(&open, block);
            live::freed(block);
        }
        open.leave();
    }
    0
}

/// `arguments` gives size, out pointer and released block.
#[inline(always)]
fn enter(ctx: &ProbeContext, arguments: impl Fn(&ProbeContext) -> Option<(u64, u64, u64)>) -> u32 {
    let Some(open) = gate::enter() else { return 0 };
    let (thread, stack_pointer) = (bpf_get_current_pid_tgid(), stack_pointer(ctx));
    if is_within(&open, thread, stack_pointer) {
        open.leave();
        return 0;
    }
    if let Some((size, out_pointer, released)) = arguments(ctx) {
        let stack = python::stack_id();
        let site = SiteKey {
            stack,
            native: native::stack_id(stack, native::registers(ctx.regs)),
            domain: domain::MALLOC,
            size_class: size_class(size),
        };
        let pending = Pending {
            site,
            size,
            out_pointer,
            released,
            burst: open.burst,
            stack_pointer,
            returns: 1,
        };
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

/// Is the thread in a call already? One that began at the same place has jumped here, which is its end
/// as well as this function's.
#[inline(always)]
fn is_within(open: &Open, thread: u64, stack_pointer: u64) -> bool {
    let Some(pending) = PENDING.get_ptr_mut(thread) else { return false };
    // SAFETY: the verifier checked the pointer; only this thread uses its entry.
    let pending = unsafe { &mut *pending };
    // An earlier burst's, or one that was left without a return (by a C++ exception).
    if pending.burst != open.burst || pending.stack_pointer < stack_pointer {
        return false;
    }
    if pending.stack_pointer == stack_pointer {
        pending.returns += 1;
    }
    true
}

/// A function returned that began at `stack_pointer`; `ends` of those that began there are told of by this.
#[inline(always)]
fn exit(open: &Open, result: u64, stack_pointer: u64, ends: u64) {
    let thread = bpf_get_current_pid_tgid();
    let Some(entry) = PENDING.get_ptr_mut(thread) else {
        maps::count(Counter::UnmatchedReturn);
        return;
    };
    // SAFETY: the verifier checked the pointer; only this thread uses its entry.
    let pending = unsafe { *entry };
    if pending.burst == open.burst {
        // A call within the call.
        if stack_pointer < pending.stack_pointer {
            return;
        }
        if pending.stack_pointer == stack_pointer && pending.returns > ends {
            // SAFETY: as above.
            unsafe { (*entry).returns -= ends };
            return;
        }
    }
    if PENDING.remove(thread).is_err() {
        return;
    }
    // The call of an earlier burst, which ended before the call did; or one that never returned.
    if pending.burst != open.burst || pending.stack_pointer != stack_pointer {
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
        live::gone(open, pending.released);
        live::freed(pending.released);
    }
    if block != 0 {
        live::gone(open, block);
        live::allocated(open, &pending.site, block, pending.size);
    }
}

#[inline(always)]
fn stack_pointer(ctx: &impl EbpfContext) -> u64 {
    registers(ctx).rsp
}
