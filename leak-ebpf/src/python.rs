//! The running thread's Python stack.
//!
//! fs base → thread-specific slot → `PyThreadState` → current frame → previous … . The slot is valid
//! with and without the GIL, and the walk is free of races, since the thread itself is in the kernel.
//! The stack is walked once to hash it, and a second time only when the hash is new, straight into
//! the ring buffer: no scratch memory that a preempting thread could overwrite.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel, generated::bpf_loop},
};
use leak_common::{
    FRAME_BYTES, MAX_FRAMES,
    config::EVERY_FRAME,
    counters::Counter,
    event::{Header, StackRecord, kind},
    frame, hash,
};

use crate::{
    emit, gate, log,
    maps::{self, RING, STACKS, config},
    user,
};

/// Links followed at most: frames and boundaries between C and Python.
const MAX_LINKS: u32 = 2 * MAX_FRAMES as u32;

/// State of a walk; lives on the stack of the program.
#[repr(C)]
struct Walk {
    /// The frame to look at next.
    frame: u64,
    /// Hash of what was seen.
    hash: u64,
    /// Python frames seen.
    depth: u64,
    /// A read failed.
    fault: u64,
    /// C code lies between the frame seen last and the next.
    from_c: u64,
    /// Where frames are stored in the second walk, else null.
    record: *mut StackRecord,
}

/// The id of the running thread's Python stack; 0 if it has none. A new stack is sent.
///
/// Exported, so that the kernel verifies it once and not at every call in every state (Linux 5.6).
#[unsafe(export_name = "python_stack_id")]
#[inline(never)]
pub extern "C" fn stack_id() -> u64 {
    let Some(frame) = current_frame() else {
        maps::count(Counter::NoPythonStack);
        return 0;
    };
    maps::count(Counter::Walks);
    let mut walk = Walk {
        frame,
        hash: hash::start(gate::generation()),
        depth: 0,
        fault: 0,
        from_c: 0,
        record: core::ptr::null_mut(),
    };
    run(&mut walk, hash_frame);
    if walk.fault != 0 {
        maps::count(Counter::ReadFault);
        log::frame_unreadable(walk.frame, walk.depth);
    }
    if walk.depth == 0 {
        return 0;
    }
    if walk.frame != 0 && walk.depth == MAX_FRAMES as u64 {
        maps::count(Counter::StackTruncated);
    }
    let stack = hash::finish(walk.hash);
    // SAFETY: only tested for presence.
    if unsafe { STACKS.get(stack) }.is_none() {
        send(stack, frame);
    }
    stack
}

/// Walks again and stores.
#[inline(always)]
fn send(stack: u64, frame: u64) {
    let Some(mut entry) = RING.reserve::<StackRecord>(0) else {
        maps::count(Counter::RingFull);
        return;
    };
    let record = entry.as_mut_ptr();
    let header: Header = emit::header(kind::STACK);
    let mut walk = Walk { frame, hash: 0, depth: 0, fault: 0, from_c: 0, record };
    run(&mut walk, store_frame);
    // SAFETY: reserved with this type; every frame up to `len` was written by `store_frame`.
    unsafe {
        (*record).header = header;
        (*record).stack = stack;
        (*record).len = walk.depth;
    }
    entry.submit(emit::unhurried());
    if STACKS.insert(stack, 1, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}

#[inline(always)]
fn run(walk: &mut Walk, step: extern "C" fn(u32, *mut c_void) -> i64) {
    // SAFETY: the kernel verifies the callback against this context.
    unsafe { bpf_loop(MAX_LINKS, step as *mut c_void, (walk as *mut Walk).cast(), 0) };
}

/// The frame that the running thread executes.
#[inline(always)]
fn current_frame() -> Option<u64> {
    if config!(python.enabled) == 0 {
        return None;
    }
    let fs_base = fs_base()?;
    let indirect = config!(python.tss_indirect);
    let slots = if indirect == 0 { fs_base } else { user::pointer(fs_base + indirect)? };
    let thread_state = user::pointer(slots + config!(python.tss_offset))?;
    let cframe = config!(python.cframe);
    let holder = if cframe == 0 { thread_state } else { user::pointer(thread_state + cframe)? };
    user::pointer(holder + config!(python.current_frame))
}

/// The running thread's fs base: the address of its control block.
#[inline(always)]
pub fn fs_base() -> Option<u64> {
    // SAFETY: no precondition.
    let task = unsafe { bpf_get_current_task() };
    let fs_base = (task + config!(fsbase_offset)) as *const u64;
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(fs_base) }.ok()
}

/// One link of the chain: the packed frame if it is a Python frame, 0 if it is a boundary; None at
/// the end.
#[inline(always)]
fn step(walk: &mut Walk) -> Option<u64> {
    if walk.frame == 0 || walk.depth >= MAX_FRAMES as u64 {
        return None;
    }
    let mut bytes = MaybeUninit::<[u64; FRAME_BYTES / 8]>::uninit();
    let Some(bytes) = user::read_to(&mut bytes, walk.frame) else {
        walk.fault = 1;
        return None;
    };
    // The layout's offsets all lie within; the test is for the verifier.
    let word = |offset: u64| bytes.get(offset as usize / 8).copied().unwrap_or(0);
    let byte = |offset: u64| (word(offset) >> (8 * (offset & 7))) & 0xff;
    let owner = byte(config!(python.frame_owner));
    // From 3.14 on, the low bits of the pointer are a tag.
    let code = word(config!(python.frame_code)) & !7;
    let frame = walk.frame;
    walk.frame = word(config!(python.frame_previous));
    if owner >= config!(python.owner_boundary) || code == 0 {
        walk.from_c = 1;
        return Some(0);
    }
    let from_c = walk.from_c != 0;
    walk.from_c = match config!(python.frame_is_entry) {
        0 => 0,
        EVERY_FRAME => 1,
        is_entry => byte(is_entry),
    };
    walk.depth += 1;
    let instr = config!(python.frame_instr);
    let byte_offset = if config!(python.instr_bytes) == 0 {
        let copy = match config!(python.copy_index) {
            0 => 0,
            index => (word(index) >> (8 * (index & 7))) & 0x7fff_ffff,
        };
        word(instr).wrapping_sub(bytecode(code, copy))
    } else {
        byte_offset(frame + instr)
    };
    let packed = frame::pack(code, byte_offset);
    Some(if from_c { frame::calling_c(packed) } else { packed })
}

/// Where a code object's bytecode begins, or the copy of this number that a thread has of it.
#[inline(always)]
fn bytecode(code: u64, copy: u64) -> u64 {
    if copy == 0 {
        return code + config!(python.code_start);
    }
    let copies = user::pointer(code + config!(python.copies));
    copies.and_then(|copies| user::pointer(copies + 8 + 8 * copy)).unwrap_or_else(|| {
        maps::count(Counter::ReadFault);
        0
    })
}

/// Before 3.11, a frame holds the index of its instruction, -1 before the first one.
#[inline(always)]
fn byte_offset(index: u64) -> u64 {
    match user::read::<i32>(index) {
        Some(index) => (i64::from(index) as u64).wrapping_mul(config!(python.instr_bytes)),
        None => {
            maps::count(Counter::ReadFault);
            u64::MAX
        }
    }
}

#[inline(never)]
extern "C" fn hash_frame(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: `run` passes a Walk.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    match step(walk) {
        Some(0) => 0,
        Some(packed) => {
            walk.hash = hash::feed(walk.hash, packed);
            0
        }
        None => 1,
    }
}

#[inline(never)]
extern "C" fn store_frame(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: `run` passes a Walk.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    let slot = walk.depth as usize;
    match step(walk) {
        Some(0) => 0,
        Some(packed) => {
            if slot < MAX_FRAMES {
                // SAFETY: the record is reserved, the slot within it.
                unsafe { (*walk.record).frames[slot & (MAX_FRAMES - 1)] = packed };
            }
            0
        }
        None => 1,
    }
}
