//! pymalloc: `malloc(ctx, size)`, `calloc(ctx, n, size)`, `realloc(ctx, block, size)`,
//! `free(ctx, block)` of the `obj` and `mem` domains, at the addresses in the live allocator tables.
//!
//! No return probes: while the GIL is held, the block that pymalloc will hand out can be read at
//! entry from the size class's pool. Blocks over 512 bytes are the C library's and are seen there.
//! Layouts: `struct pool_header` and `struct arena_object` of `pycore_obmalloc.h`, same in 3.8–3.15.

use aya_ebpf::{bindings::BPF_ANY, macros::uprobe, programs::ProbeContext};
use leak_common::{
    counters::Counter,
    event::Registers,
    keys::{PoolSeen, SiteKey, domain, size_class},
};

use crate::{
    emit,
    gate::{self, Open},
    live,
    maps::{self, POOLS, config},
    native, python, user,
};

/// Largest block that pymalloc serves.
pub const SMALL: u64 = 512;
/// `sizeof(struct pool_header)`.
const POOL_OVERHEAD: u64 = 48;

/// A block about to be handed out.
pub struct Next {
    /// The block.
    pub block: u64,
    /// Its pool.
    pool: u64,
    /// Live blocks of the pool before.
    count: u64,
}

/// `_PyObject_Malloc` or what stands in the tables for it.
#[uprobe]
pub fn pymalloc_malloc(ctx: ProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        if let Some(size) = ctx.arg::<u64>(1) {
            allocate(&open, size, native::registers(ctx.regs));
        }
        open.leave();
    }
    0
}

/// `_PyObject_Calloc`.
#[uprobe]
pub fn pymalloc_calloc(ctx: ProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        if let (Some(n), Some(size)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(2)) {
            // An overflowing product is refused by the allocator; a wrapped one here is merely wrong
            // about a call that fails.
            allocate(&open, n.wrapping_mul(size), native::registers(ctx.regs));
        }
        open.leave();
    }
    0
}

/// `_PyObject_Realloc`: moves a block when it grows, or shrinks by more than a quarter.
#[uprobe]
pub fn pymalloc_realloc(ctx: ProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        if let (Some(block), Some(size)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(2)) {
            reallocate(&open, block, size, native::registers(ctx.regs));
        }
        open.leave();
    }
    0
}

/// `_PyObject_Free`.
#[uprobe]
pub fn pymalloc_free(ctx: ProbeContext) -> u32 {
    if let Some(open) = gate::enter() {
        if let Some(block) = ctx.arg::<u64>(1) {
            if block != 0 {
                tell(&open, block);
                free(&open, block);
            }
        }
        open.leave();
    }
    0
}

#[inline(always)]
fn allocate(open: &Open, size: u64, registers: Registers) {
    if size == 0 || size > SMALL {
        return;
    }
    let Some(next) = predict(size) else { return };
    note_pool(open, next.pool, next.count, 1);
    if !open.records(size_class(size)) {
        return;
    }
    book(open, next.block, size, registers);
}

/// Walks the stack and books the block.
#[inline(always)]
pub fn book(open: &Open, block: u64, size: u64, registers: Registers) {
    live::gone(open, block);
    let stack = python::stack_id();
    let site = SiteKey {
        stack,
        native: native::small_stack_id(stack, registers),
        domain: domain::PYMALLOC,
        size_class: size_class(size),
    };
    live::allocated(open, &site, block, size);
}

/// Of some blocks, what they hold at their end.
#[inline(always)]
fn tell(open: &Open, block: u64) {
    if !open.tells() {
        return;
    }
    // Larger ones are passed on to the C library.
    if let (Some(size), Some(content)) = (block_size(block), user::read(block)) {
        emit::freed(size, content);
    }
}

#[inline(always)]
fn free(open: &Open, block: u64) {
    let pool = block & !(config!(pymalloc.pool_size) - 1);
    // Only pools that this burst saw allocate are known to be pools at all.
    if let Some(seen) = POOLS.get_ptr_mut(pool) {
        // SAFETY: the verifier checked the pointer; the GIL's holder is the only writer.
        if unsafe { (*seen).burst } == open.burst {
            match user::read::<u32>(pool) {
                Some(count) => update(open, seen, u64::from(count), -1),
                None => maps::count(Counter::ReadFault),
            }
        }
    }
    live::gone(open, block);
    live::freed(block);
}

#[inline(always)]
fn reallocate(open: &Open, block: u64, size: u64, registers: Registers) {
    // A NULL block is passed on to malloc, where it is seen.
    if block == 0 {
        return;
    }
    let Some(held) = block_size(block) else { return };
    if size <= held && 4 * size > 3 * held {
        return;
    }
    if config!(pymalloc.realloc_inlines_malloc) != 0 {
        allocate(open, size, registers);
    }
    if config!(pymalloc.realloc_inlines_free) != 0 {
        free(open, block);
    }
}

/// The size of a pymalloc block, None if it is not pymalloc's: its pool's header must name an arena
/// that contains the pool.
#[inline(always)]
fn block_size(block: u64) -> Option<u64> {
    let pool = block & !(config!(pymalloc.pool_size) - 1);
    let [arena_index, class] = user::read::<[u32; 2]>(pool + 32)?;
    let arenas = user::pointer(config!(pymalloc.arenas))?;
    let arena = user::pointer(arenas + 48 * u64::from(arena_index))?;
    let inside = pool >= arena && pool - arena < config!(pymalloc.arena_size) && class < 32;
    if inside { Some(16 * (u64::from(class) + 1)) } else { None }
}

/// The block that the next allocation of `size` bytes gets.
#[inline(always)]
fn predict(size: u64) -> Option<Next> {
    let class = (size - 1) >> 4;
    let slot = config!(pymalloc.usedpools) + 16 * class;
    let Some(pool) = user::pointer(slot) else {
        maps::count(Counter::ReadFault);
        return None;
    };
    // The head of an empty class pretends to be a pool whose `nextpool` is the slot itself.
    if pool == slot - 16 { fresh_block(class) } else { block_of(pool) }
}

/// The first free block of a pool that has one.
#[inline(always)]
pub fn block_of(pool: u64) -> Option<Next> {
    let Some([count, block]) = user::read::<[u64; 2]>(pool) else {
        maps::count(Counter::ReadFault);
        return None;
    };
    Some(Next { block, pool, count: count & 0xffff_ffff })
}

/// The first block of the next pool that an empty class gets.
#[inline(always)]
pub fn fresh_block(class: u64) -> Option<Next> {
    let next = fresh_pool(class);
    if next.is_none() {
        maps::count(Counter::Unpredicted);
    }
    next
}

/// The first block of the pool that is about to be taken into use: a freed one, which keeps its free
/// list if it served the same class before, else the next one that was never carved.
#[inline(always)]
fn fresh_pool(class: u64) -> Option<Next> {
    let variable = config!(pymalloc.usable_arenas);
    if variable == 0 {
        return None;
    }
    let arena = user::pointer(variable)?;
    let [pool_address, _nfree_ntotal, free_pool] = user::read::<[u64; 3]>(arena + 8)?;
    if free_pool == 0 {
        let block = pool_address + POOL_OVERHEAD;
        return Some(Next { block, pool: pool_address, count: 0 });
    }
    let header = user::read::<[u64; 5]>(free_pool)?;
    let block = if header[4] >> 32 == class { header[1] } else { free_pool + POOL_OVERHEAD };
    Some(Next { block, pool: free_pool, count: 0 })
}

/// Compares a pool's count with what this burst last knew of it, if it did, and notes what it will be.
#[inline(always)]
fn note_pool(open: &Open, pool: u64, count: u64, change: i64) {
    if let Some(seen) = POOLS.get_ptr_mut(pool) {
        update(open, seen, count, change);
        return;
    }
    let after = PoolSeen { burst: open.burst, count: count.wrapping_add_signed(change) };
    if POOLS.insert(pool, after, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

/// The difference is events that happened and were not seen. Exact, since the GIL is held from the read to the change.
#[inline(always)]
fn update(open: &Open, seen: *mut PoolSeen, count: u64, change: i64) {
    let after = PoolSeen { burst: open.burst, count: count.wrapping_add_signed(change) };
    // SAFETY: a value of `POOLS` that the verifier checked; the GIL's holder is the only writer.
    let before = unsafe { core::ptr::replace(seen, after) };
    if before.burst == open.burst {
        maps::count_many(Counter::PoolEventsMissed, before.count.abs_diff(count));
        maps::count(Counter::PoolEventsSeen);
    }
}
