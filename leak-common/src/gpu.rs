//! Calls that hand out and take back memory of GPUs, or memory of the host for them.

use crate::event::Header;

/// What a call does to memory.
pub mod does {
    /// `call(&address, size, …)` hands out memory.
    pub const ALLOCATE: u32 = 1;
    /// `call(&address, &pitch, width, height, …)` hands out so many rows.
    pub const ALLOCATE_ROWS: u32 = 2;
    /// `call(address, size, …)` pins memory that the host has.
    pub const ADOPT: u32 = 3;
    /// `call(address, …)` takes it back, whatever made it.
    pub const FREE: u32 = 4;
    /// `call(&handle, size, …)` hands out physical memory, which lasts until it is released and nowhere mapped.
    pub const CREATE: u32 = 5;
    /// `call(handle)` releases it.
    pub const RELEASE: u32 = 6;
    /// `call(address, size, offset, handle, …)` maps it.
    pub const MAP: u32 = 7;
    /// `call(address, size)` unmaps it.
    pub const UNMAP: u32 = 8;
    /// All that a context or a device held is gone.
    pub const RESET: u32 = 9;
    /// `call(address, ±size, allocated, reserved, device)` reports a block of an allocator's own.
    pub const REPORT: u32 = 10;
    /// `call(size, allocated, reserved, device)` reports that there was none.
    pub const REPORT_FAILURE: u32 = 11;
    /// A record's alone: a call failed.
    pub const FAIL: u32 = 12;
}

/// Kinds of memory, as indices.
pub mod memory {
    /// Of a device.
    pub const DEVICE: u32 = 0;
    /// Wherever it is used.
    pub const MANAGED: u32 = 1;
    /// Of a device, in the order of a stream, from a pool.
    pub const POOLED: u32 = 2;
    /// Of the host, pinned.
    pub const PINNED: u32 = 3;
    /// Of the host, made by somebody else and pinned since.
    pub const REGISTERED: u32 = 4;
    /// Of a device, physical, to be mapped.
    pub const PHYSICAL: u32 = 5;
    /// A block that torch hands out, within memory of another kind.
    pub const TENSOR: u32 = 6;
    /// How many kinds there are.
    pub const KINDS: usize = 7;
}

/// Who offers a call: calls of the upper layers end in those of the lower ones.
pub mod layer {
    /// The driver.
    pub const DRIVER: u32 = 0;
    /// The runtime above it.
    pub const RUNTIME: u32 = 1;
    /// An allocator above that.
    pub const ALLOCATOR: u32 = 2;
}

/// A call's row; the map's key is the address of the instruction that is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Call {
    /// Its number in the user side's table.
    pub number: u32,
    /// One of [`does`].
    pub does: u32,
    /// One of [`memory`].
    pub memory: u32,
    /// One of [`layer`].
    pub layer: u32,
}

/// No call: where an outer one is asked for and there is none.
pub const NO_CALL: u32 = u32::MAX;

/// A block that has not been given back; the map's key is its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// Bytes.
    pub size: u64,
    /// When it was handed out, `CLOCK_MONOTONIC`.
    pub born_ns: u64,
    /// The Python stack, 0 for none.
    pub stack: u64,
    /// The native stack, 0 for none.
    pub native: u64,
    /// The call that the program made: the outermost.
    pub call: u32,
    /// One of [`memory`].
    pub memory: u32,
    /// 1: torch asked for it, to hand it out in parts.
    pub by_torch: u32,
    /// The device, of a tensor's.
    pub device: u32,
}

/// A call under way in one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UnderWay {
    /// Its row.
    pub call: Call,
    /// Its first arguments.
    pub arguments: [u64; 4],
    /// The stack pointer at its entry.
    pub stack_pointer: u64,
    /// The base pointer there.
    pub base_pointer: u64,
    /// Where it returns to.
    pub caller: u64,
    /// Calls of the driver that it led to.
    pub reached: u64,
}

/// What was seen of one kind of memory; only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// Blocks handed out.
    pub allocations: u64,
    /// Their bytes.
    pub allocated: u64,
    /// Those of them that were given back.
    pub frees: u64,
    /// Their bytes.
    pub freed: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls of the runtime that led to none of the driver's that is known, and were booked themselves.
    pub unreached: u64,
    /// Probe hits.
    pub hits: u64,
    /// What they took beside the traps, in ns.
    pub spent_ns: u64,
}

/// What torch's allocator last said of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pool {
    /// Bytes handed out.
    pub allocated: u64,
    /// Bytes that it holds.
    pub reserved: u64,
    /// When it said so.
    pub time_ns: u64,
}

/// Devices that an allocator's word is kept of.
pub const DEVICES: usize = 64;

/// A rare call: of physical memory, a reset, a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Start.
    pub header: Header,
    /// One of [`does`].
    pub does: u32,
    /// One of [`memory`].
    pub memory: u32,
    /// The call that the program made: the outermost.
    pub call: u32,
    /// 1: torch made it.
    pub by_torch: u32,
    /// Where; a handle where physical memory is made or released.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// The handle that is mapped; of torch's failure the bytes that it has handed out.
    pub other: u64,
    /// The error; of torch's failure the bytes that it holds.
    pub result: u64,
    /// The device, of torch's failure.
    pub device: u64,
    /// The Python stack, 0 for none.
    pub stack: u64,
    /// The native stack, 0 for none.
    pub native: u64,
}
