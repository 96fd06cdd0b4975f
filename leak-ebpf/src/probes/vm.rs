//! Mappings, the program break, and page faults. Other processes pay one comparison.
//!
//! Everything is learnt at a system call's end, where its arguments still lie in the registers that
//! the thread entered the kernel with: half as many events as at begin and end, and no call under way
//! to remember. Where the target maps often, mappings are sampled by bytes, and a munmap is of interest
//! only for those that were taken.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::{btf_tracepoint, fexit, map, perf_event},
    maps::{Array, LruHashMap, PerCpuArray},
    programs::{BtfTracePointContext, FExitContext, PerfEventContext},
};
use leak_common::{
    counters::Counter,
    event::{MapRecord, Registers, kind},
};

use crate::{
    emit, gate,
    maps::{self, FAULTS, config},
    native, python, sample, user,
};

/// Mean distance of the mappings' samples in bytes; 0: all are recorded.
#[map]
static MAP_INTERVAL: Array<u64> = Array::with_max_entries(1, 0);

/// Bytes to go until the next mapping is taken, by CPU.
#[map]
static TO_NEXT_MAPPING: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Addresses of recorded mappings; the least used go, which are those that stay.
#[map]
static MAPPED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1 << 16, 0);

/// Where the break was, to tell growth from shrinking.
#[map]
static BREAK: Array<u64> = Array::with_max_entries(1, 0);

const MAP_FIXED: u64 = 0x10;

/// Numbers of the system calls on x86-64.
mod number {
    pub const MMAP: u64 = 9;
    pub const MUNMAP: u64 = 11;
    pub const BRK: u64 = 12;
    pub const MREMAP: u64 = 25;
}

/// A system call that has ended well.
struct Call {
    /// The registers that the thread entered the kernel with: `pt_regs`.
    registers: *const u64,
    result: u64,
}

impl Call {
    /// Byte offset of `orig_rax`, the call's number, in `pt_regs` of x86-64.
    const NUMBER: usize = 120;
    /// That of rsp.
    const STACK_POINTER: usize = 152;
    /// Those of what unwinding begins with: rip, rsp, rbp.
    const UNWINDING: [usize; 3] = [128, Self::STACK_POINTER, 32];
    /// Those of the arguments: rdi, rsi, rdx, r10, r8, r9.
    const ARGUMENTS: [usize; 6] = [112, 104, 96, 56, 72, 64];

    #[inline(always)]
    fn register(&self, offset: usize) -> u64 {
        // SAFETY: the tracepoint's argument is a valid `pt_regs`; the verifier checks the offset by BTF.
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    /// The ids of the thread's stacks, Python's and the native one.
    #[inline(always)]
    fn stacks(&self) -> (u64, u64) {
        let [ip, sp, bp] = Self::UNWINDING.map(|offset| self.register(offset));
        let stack = python::stack_id();
        (stack, native::stack_id(stack, Registers { ip, sp, bp }))
    }

    /// An argument, from 0.
    #[inline(always)]
    fn argument(&self, n: usize) -> u64 {
        self.register(Self::ARGUMENTS[n])
    }
}

/// A call of the target's that has ended well, and is not its heap's own. `registers` and `result` are what
/// `__x64_sys_…` was given and returns.
#[inline(always)]
fn ended(registers: *const u64, result: u64) -> Option<Call> {
    // An error is -4095..=-1.
    (gate::is_target() && result <= -4096_i64 as u64).then_some(Call { registers, result })
}

/// The ends of the four calls themselves: who calls others, in whatever process, pays nothing. The tracepoint of all
/// system calls makes each of every process take the kernel's slow way.
#[fexit(function = "__x64_sys_mmap")]
pub fn mmap_exit(ctx: FExitContext) -> i32 {
    if let Some(call) = ended(ctx.arg(0), ctx.arg(1))
        && !is_by_heap(&call)
    {
        mmap(&call);
    }
    0
}

/// See [`mmap_exit`].
#[fexit(function = "__x64_sys_munmap")]
pub fn munmap_exit(ctx: FExitContext) -> i32 {
    if let Some(call) = ended(ctx.arg(0), ctx.arg(1)) {
        munmap(&call);
    }
    0
}

/// See [`mmap_exit`].
#[fexit(function = "__x64_sys_mremap")]
pub fn mremap_exit(ctx: FExitContext) -> i32 {
    if let Some(call) = ended(ctx.arg(0), ctx.arg(1)) {
        mremap(&call);
    }
    0
}

/// See [`mmap_exit`].
#[fexit(function = "__x64_sys_brk")]
pub fn brk_exit(ctx: FExitContext) -> i32 {
    if let Some(call) = ended(ctx.arg(0), ctx.arg(1)) {
        brk(&call);
    }
    0
}

/// `sys_exit(regs, result)`: the end of every system call of every process, for kernels that can't attach to functions of
/// their own (built without ftrace). The tracepoint of a single call (`sys_exit_mmap`) would cost more, since the
/// kernel first copies a record of the call for perf.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let registers: *const u64 = ctx.arg(0);
    let number = Call { registers, result: 0 }.register(Call::NUMBER);
    if !matches!(number, number::MMAP | number::MUNMAP | number::MREMAP | number::BRK) {
        return 0;
    }
    let Some(call) = ended(registers, ctx.arg(1)) else { return 0 };
    match number {
        number::MMAP if is_by_heap(&call) => {}
        number::MMAP => mmap(&call),
        number::MUNMAP => munmap(&call),
        number::MREMAP => mremap(&call),
        _ => brk(&call),
    }
    0
}

/// Did the heap map memory for itself? What it holds is counted as its blocks. The C library's `mmap` has
/// nothing on the stack, so that its caller is on top.
#[inline(always)]
fn is_by_heap(call: &Call) -> bool {
    let (start, end) = (config!(heap_code.start), config!(heap_code.end));
    end != 0
        && user::read::<u64>(call.register(Call::STACK_POINTER))
            .is_some_and(|caller| (start..end).contains(&caller))
}

#[inline(always)]
fn interval() -> u64 {
    // SAFETY: the verifier checks the pointer; the word is read once.
    MAP_INTERVAL.get_ptr(0).map_or(0, |interval| unsafe { *interval })
}

#[inline(always)]
fn blank(kind: u32) -> MapRecord {
    MapRecord {
        header: emit::header(kind),
        address: 0,
        length: 0,
        old_address: 0,
        old_length: 0,
        prot_flags: 0,
        fd: u64::MAX,
        stack: 0,
        native: 0,
        interval: 0,
    }
}

/// Sends a mapping and remembers that it was sent.
#[inline(always)]
fn mapped(record: MapRecord) {
    emit::mapping(record);
    // One that has no room is looked for in the process's map at the end.
    let _ = MAPPED.insert(record.address, 1, u64::from(BPF_ANY));
}

/// Was the mapping there recorded? It is not any more. Looked up first, since that takes no lock.
#[inline(always)]
fn forget(address: u64) -> bool {
    // SAFETY: only tested for presence.
    unsafe { MAPPED.get(address) }.is_some() && MAPPED.remove(address).is_ok()
}

const fn pages(length: u64) -> u64 {
    length.wrapping_add(4095) & !4095
}

/// mmap(addr, length, prot, flags, fd, offset) returned the address.
#[inline(always)]
fn mmap(call: &Call) {
    let (length, flags) = (pages(call.argument(1)), call.argument(3));
    maps::count(Counter::Mappings);
    maps::count_many(Counter::MappedBytes, length);
    let interval = interval();
    // What is mapped to a fixed place may replace recorded mappings.
    let fixed = flags & MAP_FIXED != 0;
    if fixed || sample::take(&TO_NEXT_MAPPING, interval, length) {
        let (stack, native) = call.stacks();
        mapped(MapRecord {
            address: call.result,
            length,
            prot_flags: call.argument(2) & 0xffff_ffff | flags << 32,
            fd: call.argument(4) as u32 as i32 as i64 as u64,
            stack,
            native,
            interval: if fixed { 0 } else { interval },
            ..blank(kind::MMAP)
        });
    }
}

/// munmap(addr, length)
#[inline(always)]
fn munmap(call: &Call) {
    let address = call.argument(0);
    if forget(address) || interval() == 0 {
        let length = pages(call.argument(1));
        emit::mapping(MapRecord { address, length, ..blank(kind::MUNMAP) });
    }
}

/// mremap(old, old_length, length, flags, new) returned the address.
#[inline(always)]
fn mremap(call: &Call) {
    let old_address = call.argument(0);
    if forget(old_address) || interval() == 0 {
        let (stack, native) = call.stacks();
        mapped(MapRecord {
            address: call.result,
            length: pages(call.argument(2)),
            old_address,
            old_length: pages(call.argument(1)),
            stack,
            native,
            ..blank(kind::MREMAP)
        });
    }
}

/// brk(addr) returned the break, moved or not. Growth alone is told, sampled as mappings are: some heaps
/// move the break several times a request.
#[inline(always)]
fn brk(call: &Call) {
    let Some(place) = BREAK.get_ptr_mut(0) else { return };
    let address = call.result;
    // SAFETY: the verifier checked the pointer; a race of two threads is the kernel's to order.
    let before = unsafe { place.replace(address) };
    if before == 0 || address <= before {
        return;
    }
    let length = address - before;
    maps::count(Counter::Mappings);
    maps::count_many(Counter::MappedBytes, length);
    let interval = interval();
    if sample::take(&TO_NEXT_MAPPING, interval, length) {
        let stack = python::stack_id();
        emit::mapping(MapRecord { address, length, stack, interval, ..blank(kind::BRK) });
    }
}

/// Every n-th page fault of the target's threads.
#[perf_event]
pub fn page_fault(_ctx: PerfEventContext) -> u32 {
    if gate::is_target() {
        let stack = python::stack_id();
        if let Some(faults) = FAULTS.get_ptr_mut(stack) {
            // SAFETY: the verifier checked the pointer; a lost increment is within the sampling error.
            unsafe { *faults += 1 };
        } else if FAULTS.insert(stack, 1, u64::from(BPF_ANY)).is_err() {
            maps::count(Counter::MapFull);
        }
    }
    0
}
