//! The program that says where threads wait: it runs when its file is read, once for each thread of the machine.
//! Needs Linux 5.15.
#![no_std]
#![no_main]

mod kernel;
mod object;

use aya_ebpf::{
    bindings::{pt_regs, seq_file, task_struct},
    helpers::{bpf_seq_write, bpf_task_pt_regs},
};
use kernel::field;
use leak_common::{
    event::Registers,
    threads::{ThreadRecord, ThreadsConfig},
};

/// Set by the user side before loading; the verifier sees constants.
// SAFETY: integers only, for which all zeros are valid.
#[unsafe(no_mangle)]
pub static THREADS: ThreadsConfig = unsafe { core::mem::zeroed() };

/// `struct bpf_iter__task`: what the kernel passes.
#[repr(C)]
struct Visit {
    meta: *const Meta,
    task: *mut task_struct,
}

/// The begin of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    out: *mut seq_file,
}

/// Reads one field of the configuration. Volatile, since the zeros that the compiler sees are not what
/// will be there.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: a field of a static that nobody writes after loading.
        unsafe { core::ptr::read_volatile(&raw const THREADS.$field) }
    };
}

/// Writes a [`ThreadRecord`] for each thread of the process.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn thread_registers(visit: *const Visit) -> i32 {
    // SAFETY: the kernel passes both words; a visit after the last has no task.
    let (meta, task) = unsafe { ((*visit).meta, (*visit).task) };
    if task.is_null() {
        return 0;
    }
    let place = task as u64;
    if u64::from(field::<u32>(place, config!(tgid))) != config!(process) {
        return 0;
    }
    // SAFETY: the verifier knows it for a task.
    let saved = unsafe { bpf_task_pt_regs(task) } as u64;
    let register = |offset: usize| field::<u64>(saved, offset as u64);
    let record = ThreadRecord {
        tid: field::<u32>(place, config!(pid)).into(),
        registers: Registers {
            ip: register(core::mem::offset_of!(pt_regs, rip)),
            sp: register(core::mem::offset_of!(pt_regs, rsp)),
            bp: register(core::mem::offset_of!(pt_regs, rbp)),
        },
    };
    // SAFETY: the kernel's own file, and as many bytes as the record has. What finds no room is written again
    // by the kernel once there is some.
    unsafe {
        bpf_seq_write((*meta).out, (&raw const record).cast(), size_of::<ThreadRecord>() as u32);
    }
    0
}
