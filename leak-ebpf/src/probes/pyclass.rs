//! pymalloc by size class: a hardware breakpoint on `usedpools[2 * class]`, for interpreters that carry
//! copies of the allocator all over their code.
//!
//! Every allocation of the class loads that word, and the breakpoint fires right after, before the
//! block is taken. The program must not read the word itself, for the kernel's reads hit the breakpoint
//! too: the pool that was loaded is in one of the registers. Putting a pool into the list or out of it
//! touches the word as well: then the block that is next is booked too early, and booked again when it
//! is taken.

use aya_ebpf::{bindings::pt_regs, macros::perf_event, programs::PerfEventContext};
use leak_common::{config::HEAD_WRITES, counters::Counter};

use super::pymem::{self, Next, SMALL};
use crate::{
    gate::{self, Open},
    live,
    maps::{self, config},
    native, user,
};

/// A thread used the head of a watched size class's list of pools.
#[perf_event]
pub fn class_access(ctx: PerfEventContext) -> u32 {
    let Some(open) = gate::enter() else { return 0 };
    // SAFETY: the kernel hands a valid context to the program.
    let (address, regs) = unsafe { ((*ctx.ctx).addr, &(*ctx.ctx).regs) };
    let from_first = address.wrapping_sub(config!(pymalloc.usedpools));
    let class = from_first >> 4;
    if from_first & 15 == HEAD_WRITES {
        maps::count(Counter::HeadWrites);
    } else if class < SMALL / 16 {
        take(&open, regs, address, class);
    }
    open.leave_breakpoint();
    0
}

/// Books the block that is about to be taken. Frees are not seen, but a block that is handed out again
/// has been freed.
#[inline(always)]
fn take(open: &Open, regs: &pt_regs, slot: u64, class: u64) {
    let size = 16 * (class + 1);
    if let Some(next) = next_block(regs, slot, class) {
        live::freed(next.block);
        pymem::book(open, next.block, size, native::registers(regs));
    }
}

#[inline(always)]
fn next_block(regs: &pt_regs, slot: u64, class: u64) -> Option<Next> {
    // The context can't be indexed, and a list of its words would take too much of the stack.
    macro_rules! first_pool {
        ($($register:ident)*) => { $(
            if let Some(pool) = pool(regs.$register, slot, class) {
                return pool.next(class);
            }
        )* };
    }
    first_pool!(rax rdx rcx rsi rdi rbx rbp r8 r9 r10 r11 r12 r13 r14 r15);
    maps::count(Counter::Unpredicted);
    None
}

/// What a register points to.
enum Pool {
    /// The head of an empty class, which pretends to be a pool.
    Head,
    /// A pool of the class.
    At(u64),
}

/// The pool of a class that a register points to.
#[inline(always)]
fn pool(register: u64, slot: u64, class: u64) -> Option<Pool> {
    if register == slot - 16 {
        return Some(Pool::Head);
    }
    let mask = config!(pymalloc.pool_size) - 1;
    if register == 0 || register & mask != 0 {
        return None;
    }
    // Its class, in the upper half of the word at 32.
    let word = user::read::<u64>(register + 32)?;
    (word >> 32 == class).then_some(Pool::At(register))
}

impl Pool {
    #[inline(always)]
    fn next(self, class: u64) -> Option<Next> {
        match self {
            Self::Head => pymem::fresh_block(class),
            Self::At(pool) => pymem::block_of(pool),
        }
    }
}
