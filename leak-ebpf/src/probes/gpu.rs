//! Memory of GPUs: calls of the driver, of the runtime above it, and what torch's allocator reports.
//!
//! Which call a probe is at, and what that does, the user side says by the address of the probed instruction
//! ([`GPU_CALLS`]). All programs end in the driver, so a block is booked there, under the name of the outermost
//! call. A block is taken out before it is given back, not after: another thread may be handed the same address
//! at once.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{map, uprobe, uretprobe},
    maps::{Array, HashMap, PerCpuArray},
    programs::{ProbeContext, RetProbeContext},
};
use leak_common::{
    config::Range,
    counters::Counter,
    event::{Registers, kind},
    gpu::{Block, Call, DEVICES, Pool, Record, Totals, UnderWay, does, layer, memory},
};

use crate::{context::registers, emit, gate, maps, native, python, user};

/// The probed calls, by the address of the probed instruction.
#[map]
static GPU_CALLS: HashMap<u64, Call> = HashMap::with_max_entries(1 << 10, 0);

/// Blocks that were not given back. A process has hundreds of segments, or thousands of blocks where it has no pool.
#[map]
static GPU_BLOCKS: HashMap<u64, Block> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Tensors' blocks likewise; by themselves, since the first of a segment has the segment's address.
#[map]
static GPU_TENSORS: HashMap<u64, Block> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Tensors' blocks that were given back, by their stack, the native one where it was taken; taken out by the user side.
#[map]
static GPU_ENDED: HashMap<u64, u64> = HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);

/// Calls of the driver under way, by thread.
#[map]
static GPU_DRIVER: HashMap<u64, UnderWay> = HashMap::with_max_entries(1 << 12, BPF_F_NO_PREALLOC);

/// Calls of the runtime under way, by thread.
#[map]
static GPU_RUNTIME: HashMap<u64, UnderWay> = HashMap::with_max_entries(1 << 12, BPF_F_NO_PREALLOC);

/// By kind of memory.
#[map]
static GPU_TOTALS: PerCpuArray<Totals> = PerCpuArray::with_max_entries(memory::KINDS as u32, 0);

/// By device.
#[map]
static GPU_POOLS: Array<Pool> = Array::with_max_entries(DEVICES as u32, 0);

/// Where the code of torch's allocator lies.
#[map]
static GPU_TORCH: Array<Range> = Array::with_max_entries(1, 0);

/// What calls answer where there is no memory: the same in the driver and in the runtime.
const OUT_OF_MEMORY: u64 = 2;

/// torch's number for devices of CUDA.
const CUDA: u64 = 1;

/// The entry of a call that hands out memory.
#[uprobe]
pub fn gpu_enter(ctx: ProbeContext) -> u32 {
    at_call(&ctx, entered)
}

/// A call that gives memory back, or drops all there is.
#[uprobe]
pub fn gpu_free(ctx: ProbeContext) -> u32 {
    at_call(&ctx, freed)
}

/// torch's allocator hands out a block, or takes one back (then the size is negative):
/// `report(address, size, allocated, reserved, device)`.
#[uprobe]
pub fn torch_report(ctx: ProbeContext) -> u32 {
    at_call(&ctx, reported)
}

/// torch's allocator has nothing to hand out: `report(size, allocated, reserved, device)`.
#[uprobe]
pub fn torch_failure(ctx: ProbeContext) -> u32 {
    at_call(&ctx, refused)
}

/// The end of a call that hands out memory.
#[uretprobe]
pub fn gpu_return(ctx: RetProbeContext) -> u32 {
    let start_ns = now_ns();
    if let Some(memory) = returned(&ctx) {
        book_hit(memory, start_ns);
    }
    0
}

/// Does what is to be done where a call of the target's begins, and books what that took.
#[inline(always)]
fn at_call(ctx: &ProbeContext, action: impl FnOnce(&ProbeContext, Call)) -> u32 {
    if !gate::is_target() {
        return 0;
    }
    let start_ns = now_ns();
    // SAFETY: a row is written before its probe is attached, and never changed.
    let call = unsafe { GPU_CALLS.get(registers(ctx).rip) }.copied();
    if let Some(call) = call {
        action(ctx, call);
        book_hit(call.memory, start_ns);
    }
    0
}

#[inline(always)]
fn book_hit(memory: u32, start_ns: u64) {
    let took = now_ns() - start_ns;
    add(memory, |totals| {
        totals.hits += 1;
        totals.spent_ns += took;
    });
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: no precondition.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn entered(ctx: &ProbeContext, call: Call) {
    let argument = |n| ctx.arg::<u64>(n).unwrap_or(0);
    let (stack_pointer, base_pointer) = (registers(ctx).rsp, registers(ctx).rbp);
    let under_way = UnderWay {
        call,
        arguments: [argument(0), argument(1), argument(2), argument(3)],
        stack_pointer,
        base_pointer,
        caller: user::read(stack_pointer).unwrap_or(0),
        reached: 0,
    };
    let calls = if call.layer == layer::DRIVER { &GPU_DRIVER } else { &GPU_RUNTIME };
    if calls.insert(bpf_get_current_pid_tgid(), under_way, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

/// The kind of memory of the call that has ended.
#[inline(always)]
fn returned(ctx: &RetProbeContext) -> Option<u32> {
    let thread = bpf_get_current_pid_tgid();
    let regs = registers(ctx);
    // The return address has been taken from the stack.
    let stack_pointer = regs.rsp.wrapping_sub(8);
    let result = u64::from(regs.rax as u32);
    let outer = GPU_RUNTIME.get_ptr_mut(thread);
    if let Some(own) = ended(&GPU_DRIVER, thread, stack_pointer) {
        // SAFETY: the verifier checked the pointer; only this thread uses its entry.
        let outer = outer.map(|outer| unsafe {
            (*outer).reached += 1;
            *outer
        });
        // One whose return was not seen lies further down.
        let outer = outer.filter(|outer| outer.stack_pointer > stack_pointer);
        finish(&own, &outer.unwrap_or(own), result);
        return Some(own.call.memory);
    }
    let own = ended(&GPU_RUNTIME, thread, stack_pointer)?;
    if own.reached == 0 {
        add(own.call.memory, |totals| totals.unreached += 1);
        finish(&own, &own, result);
    }
    Some(own.call.memory)
}

#[inline(always)]
fn freed(ctx: &ProbeContext, call: Call) {
    let address = ctx.arg::<u64>(0).unwrap_or(0);
    if call.does == does::FREE {
        gone(&GPU_BLOCKS, address);
    } else {
        let size = if call.does == does::UNMAP { ctx.arg(1).unwrap_or(0) } else { 0 };
        emit::gpu(Record { address, size, ..blank(call, call.does) });
    }
}

#[inline(always)]
fn reported(ctx: &ProbeContext, call: Call) {
    let argument = |n| ctx.arg::<u64>(n).unwrap_or(0);
    let (address, size, device) = (argument(0), argument(1) as i64, argument(4));
    if device & 0xff != CUDA {
        return;
    }
    let device = (device >> 8 & 0xff) as u32;
    let time_ns = now_ns();
    if let Some(pool) = GPU_POOLS.get_ptr_mut(device) {
        // SAFETY: the verifier checked the pointer; torch reports under a lock of the device's.
        unsafe { *pool = Pool { allocated: argument(2), reserved: argument(3), time_ns } };
    }
    if size <= 0 {
        if let Some(block) = gone(&GPU_TENSORS, address) {
            count_end(if block.native == 0 { block.stack } else { block.native });
        }
        return;
    }
    let stack = python::stack_id();
    let block = Block {
        size: size as u64,
        born_ns: time_ns,
        stack,
        native: native::small_stack_id(stack, native::registers(ctx.regs)),
        call: call.number,
        memory: memory::TENSOR,
        by_torch: 1,
        device,
    };
    keep(&GPU_TENSORS, address, block);
}

#[inline(always)]
fn refused(ctx: &ProbeContext, call: Call) {
    let argument = |n| ctx.arg::<u64>(n).unwrap_or(0);
    let device = argument(3) >> 8 & 0xff;
    add(memory::TENSOR, |totals| totals.failures += 1);
    let stack = python::stack_id();
    emit::gpu(Record {
        size: argument(0),
        other: argument(1),
        result: argument(2),
        device,
        by_torch: 1,
        stack,
        native: native::stack_id(stack, native::registers(ctx.regs)),
        ..blank(call, does::REPORT_FAILURE)
    });
}

/// Forgets the calls that a thread which ends was in.
#[inline(always)]
pub fn forget(thread: u64) {
    // Not there: nothing to forget.
    let _ = GPU_DRIVER.remove(thread);
    let _ = GPU_RUNTIME.remove(thread);
}

/// The thread's call that began at this stack pointer.
#[inline(always)]
fn ended(calls: &HashMap<u64, UnderWay>, thread: u64, stack_pointer: u64) -> Option<UnderWay> {
    // SAFETY: only this thread uses its entry.
    let under_way = *unsafe { calls.get(thread) }?;
    if under_way.stack_pointer != stack_pointer {
        return None;
    }
    // Not there: nothing to remove.
    let _ = calls.remove(thread);
    Some(under_way)
}

/// Books a call that has ended; `outer` is what the program called.
#[inline(always)]
fn finish(own: &UnderWay, outer: &UnderWay, result: u64) {
    let call = own.call;
    let by_torch = is_by_torch(outer.caller);
    let [first, second, third, fourth] = own.arguments;
    if result == 0 && call.does == does::MAP {
        let record = blank(outer.call, does::MAP);
        emit::gpu(Record { address: first, size: second, other: fourth, ..record });
        return;
    }
    if result != 0 {
        add(call.memory, |totals| totals.failures += 1);
        if result != OUT_OF_MEMORY || call.does == does::MAP {
            return;
        }
    }
    let stack = python::stack_id();
    // From the outermost call's caller on: below it, the kernel has put return addresses of its own on the stack.
    let from = Registers {
        ip: outer.caller,
        sp: outer.stack_pointer.wrapping_add(8),
        bp: outer.base_pointer,
    };
    let native = native::stack_id(stack, from);
    if result != 0 {
        let rows = call.does == does::ALLOCATE_ROWS;
        let size = if rows { third.wrapping_mul(fourth) } else { second };
        let failure = blank(outer.call, does::FAIL);
        emit::gpu(Record { size, result, by_torch, stack, native, ..failure });
        return;
    }
    let (address, size) = match call.does {
        does::ADOPT => (Some(first), Some(second)),
        does::ALLOCATE_ROWS => {
            let pitch = user::read::<u64>(second);
            (user::pointer(first), pitch.map(|pitch| pitch.wrapping_mul(fourth)))
        }
        _ => (user::pointer(first), Some(second)),
    };
    let (Some(address), Some(size)) = (address, size) else {
        maps::count(Counter::ReadFault);
        return;
    };
    if call.does == does::CREATE {
        let record = blank(outer.call, does::CREATE);
        emit::gpu(Record { address, size, by_torch, stack, native, ..record });
        return;
    }
    let block = Block {
        size,
        born_ns: now_ns(),
        stack,
        native,
        call: outer.call.number,
        memory: call.memory,
        by_torch,
        device: 0,
    };
    keep(&GPU_BLOCKS, address, block);
}

#[inline(always)]
fn is_by_torch(caller: u64) -> u32 {
    let Some(code) = GPU_TORCH.get_ptr(0) else { return 0 };
    // SAFETY: the verifier checked the pointer; the user side writes it before it attaches.
    let code = unsafe { *code };
    u32::from((code.start..code.end).contains(&caller))
}

/// Books a block. What lay at its address has gone unseen.
#[inline(always)]
fn keep(blocks: &HashMap<u64, Block>, address: u64, block: Block) {
    gone(blocks, address);
    add(block.memory, |totals| {
        totals.allocations += 1;
        totals.allocated += block.size;
    });
    if blocks.insert(address, block, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

/// Takes a block out, if it is known.
#[inline(always)]
fn gone(blocks: &HashMap<u64, Block>, address: u64) -> Option<Block> {
    // SAFETY: copied before it is removed; two threads that free one block are the target's error.
    let block = unsafe { blocks.get(address) }.copied()?;
    blocks.remove(address).ok()?;
    add(block.memory, |totals| {
        totals.frees += 1;
        totals.freed += block.size;
    });
    Some(block)
}

#[inline(always)]
fn count_end(stack: u64) {
    if let Some(ended) = GPU_ENDED.get_ptr_mut(stack) {
        // SAFETY: the verifier checked the pointer; torch reports under a lock of the device's.
        unsafe { *ended += 1 };
    } else if GPU_ENDED.insert(stack, 1, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

#[inline(always)]
fn add(memory: u32, change: impl FnOnce(&mut Totals)) {
    if let Some(totals) = GPU_TOTALS.get_ptr_mut(memory) {
        // SAFETY: the verifier checked the pointer; the slot is this CPU's.
        change(unsafe { &mut *totals });
    }
}

#[inline(always)]
fn blank(call: Call, does: u32) -> Record {
    Record {
        header: emit::header(kind::GPU),
        does,
        memory: call.memory,
        call: call.number,
        by_torch: 0,
        address: 0,
        size: 0,
        other: 0,
        result: 0,
        device: 0,
        stack: 0,
        native: 0,
    }
}
