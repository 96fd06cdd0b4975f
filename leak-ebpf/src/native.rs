//! The running thread's native stack.
//!
//! Unwinding compiled code takes tables of megabytes. So the kernel side only tells whether a stack may be
//! new: by the Python stack, the place in the code, the stack's depth, and those of the stack's first words
//! that are addresses of code, the return addresses among them. Then it copies the stack's top into the ring
//! buffer, and the reader unwinds it. What else looks like a return address makes one stack look like two,
//! which costs another copy.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_ANY, pt_regs},
    helpers::generated::{bpf_get_current_comm, bpf_probe_read_user},
    macros::map,
    maps::Array,
};
use leak_common::{
    code,
    config::native,
    counters::Counter,
    event::{NATIVE_TOP, NATIVE_WHOLE, NativeRecord, Registers, kind},
    hash,
};

use crate::{
    emit, gate,
    maps::{self, RING, STACKS, config},
    python, user,
};

/// The stack is copied by so many bytes at a time; what lies beyond its end can't be read.
const CHUNK: usize = 512;

/// The table of the target's code.
#[map]
static CODE: Array<code::Table> = Array::with_max_entries(1, 0);

/// Words of the stack that are looked at for return addresses.
const WORDS: usize = 24;

/// … so many at a time: before Linux 6.13 this function and who calls it have 512 bytes of stack together.
const PART: usize = 12;

/// The registers that unwinding begins with, from those that a program was given.
#[inline(always)]
pub fn registers(regs: *const pt_regs) -> Registers {
    // SAFETY: the kernel hands a valid `pt_regs` to the program.
    unsafe { Registers { ip: (*regs).rip, sp: (*regs).rsp, bp: (*regs).rbp } }
}

/// The id of the native stack of a thread that allocates from the C library or maps memory; 0 where none
/// are taken. `stack` is its Python stack's id.
#[inline(always)]
pub fn stack_id(stack: u64, registers: Registers) -> u64 {
    match config!(native) {
        native::NONE => 0,
        _ => id(stack, registers.ip, registers.sp, registers.bp),
    }
}

/// The same for one that allocates from pymalloc.
#[inline(always)]
pub fn small_stack_id(stack: u64, registers: Registers) -> u64 {
    match config!(native) {
        native::WHOLE => id(stack, registers.ip, registers.sp, registers.bp),
        _ => 0,
    }
}

/// Exported, so that the kernel verifies it once, whatever is passed, and not at every call in every state
/// (Linux 5.6).
#[unsafe(export_name = "native_stack_id")]
#[inline(never)]
extern "C" fn id(stack: u64, ip: u64, sp: u64, bp: u64) -> u64 {
    // A thread's control block lies at the outer end of its stack, so that this is the depth; for the main
    // thread it is as good as the depth.
    let Some(fs_base) = python::fs_base() else { return 0 };
    let mut native = hash::start(gate::generation());
    for word in [stack, ip, fs_base.wrapping_sub(sp)] {
        native = hash::feed(native, word);
    }
    let native = return_addresses(native, sp);
    let native = hash::finish(native);
    // SAFETY: only tested for presence.
    if unsafe { STACKS.get(native) }.is_none() {
        let registers = Registers { ip, sp, bp };
        if config!(native) == native::WHOLE {
            send::<NATIVE_WHOLE>(native, stack, registers);
        } else {
            send::<NATIVE_TOP>(native, stack, registers);
        }
    }
    native
}

/// Feeds the words on top of the stack that are addresses of code.
#[inline(always)]
fn return_addresses(mut hash: u64, sp: u64) -> u64 {
    let Some(table) = CODE.get_ptr(0) else { return hash };
    // SAFETY: the verifier checked the pointer; the user side may change the table meanwhile.
    let table = unsafe { &*table };
    let mut words = MaybeUninit::<[u64; PART]>::uninit();
    for part in 0..WORDS / PART {
        // The stack may end earlier.
        let Some(words) = user::read_to(&mut words, sp + (8 * PART * part) as u64) else { break };
        for &word in words {
            let is_code = u64::from(code::is_code(table, word));
            hash = hash::feed(hash, word * is_code);
        }
    }
    hash
}

#[inline(always)]
fn send<const BYTES: usize>(native: u64, stack: u64, registers: Registers) {
    let Some(mut entry) = RING.reserve::<NativeRecord<BYTES>>(0) else {
        maps::count(Counter::RingFull);
        return;
    };
    let record = entry.as_mut_ptr();
    let header = emit::header(kind::NATIVE);
    let mut len = 0;
    while len < BYTES {
        // SAFETY: within the record, which is reserved; the helper checks the source.
        let failed = unsafe {
            let to = (&raw mut (*record).bytes).byte_add(len);
            bpf_probe_read_user(to.cast(), CHUNK as u32, (registers.sp + len as u64) as *const _)
        };
        if failed != 0 {
            break;
        }
        len += CHUNK;
    }
    // SAFETY: reserved with this type; the reader looks at `len` bytes only.
    unsafe {
        (*record).header = header;
        (*record).native = native;
        (*record).stack = stack;
        (*record).registers = registers;
        (*record).len = len as u64;
        // Straight into the record: as a value it would lie on the stack, a word for each byte.
        (*record).thread = [0; _];
        bpf_get_current_comm(
            (&raw mut (*record).thread).cast(),
            size_of_val(&(*record).thread) as u32,
        );
    }
    entry.submit(emit::unhurried());
    maps::count(Counter::NativeCopies);
    if STACKS.insert(native, 1, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::MapFull);
    }
}
