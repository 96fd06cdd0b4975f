//! Records of the ring buffer. Each starts with a [`Header`]; its `kind` and the record's length
//! together say what follows. Unknown kinds and short records are counted by the reader, never
//! trusted.

use crate::MAX_FRAMES;

/// What a record is.
pub mod kind {
    /// A stack seen for the first time: [`super::StackRecord`], cut after its frames.
    pub const STACK: u32 = 1;
    /// A mapping was made: [`super::MapRecord`].
    pub const MMAP: u32 = 2;
    /// A mapping was removed.
    pub const MUNMAP: u32 = 3;
    /// A mapping was moved or resized.
    pub const MREMAP: u32 = 4;
    /// The program break moved.
    pub const BRK: u32 = 5;
    /// The burst spent its share, the kernel closed the gate: [`super::GateRecord`].
    pub const GATE_CLOSED: u32 = 6;
    /// A thread or the process ended: [`super::ProcessRecord`].
    pub const EXIT: u32 = 7;
    /// The process replaced its program.
    pub const EXEC: u32 = 8;
    /// A child process was born.
    pub const FORK: u32 = 9;
    /// The top of a native stack that may be new: [`super::NativeRecord`].
    pub const NATIVE: u32 = 10;
    /// A rare call of a GPU's library: [`crate::gpu::Record`].
    pub const GPU: u32 = 11;
    /// A block of pymalloc's is about to be freed: [`super::FreedRecord`].
    pub const FREED: u32 = 12;
}

/// Common start of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// [`kind`].
    pub kind: u32,
    /// The thread that it happened in, in the initial pid namespace.
    pub tid: u32,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
}

/// A stack, innermost frame first; the record ends after `len` frames.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StackRecord {
    /// Start.
    pub header: Header,
    /// The id that sites refer to.
    pub stack: u64,
    /// How many frames follow.
    pub len: u64,
    /// Packed frames ([`crate::frame`]).
    pub frames: [u64; MAX_FRAMES],
}

/// The top of a thread's stack, as it was when the thread allocated; to be unwound by the reader.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NativeRecord<const BYTES: usize> {
    /// Start.
    pub header: Header,
    /// The id that sites refer to.
    pub native: u64,
    /// The id of the Python stack that it goes with, 0 for none.
    pub stack: u64,
    /// Where the thread was.
    pub registers: Registers,
    /// The thread's name, ended by a zero.
    pub thread: [u8; 16],
    /// How many bytes of the stack follow, from the stack pointer upwards.
    pub len: u64,
    /// They.
    pub bytes: [u8; BYTES],
}

/// Bytes of a stack that are copied: enough for the way from an allocator to the interpreter.
pub const NATIVE_TOP: usize = 8 << 10;

/// The same where whole stacks are wanted.
pub const NATIVE_WHOLE: usize = 32 << 10;

/// What unwinding begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Base pointer: the only other register that unwinding tables refer to in practice.
    pub bp: u64,
}

/// mmap, munmap, mremap, brk, after they succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MapRecord {
    /// Start.
    pub header: Header,
    /// The mapping's address (brk: the new break).
    pub address: u64,
    /// Its length in bytes, rounded up to pages (brk: by how much it grew).
    pub length: u64,
    /// mremap: the address it had.
    pub old_address: u64,
    /// mremap: the length it had.
    pub old_length: u64,
    /// mmap: the protection in the low half, the flags in the high half.
    pub prot_flags: u64,
    /// mmap: the file descriptor, or all ones.
    pub fd: u64,
    /// The Python stack, 0 for none.
    pub stack: u64,
    /// The native stack, 0 for none.
    pub native: u64,
    /// mmap, brk: the mean distance in bytes of the samples that it is one of; 0: all are taken.
    pub interval: u64,
}

/// The kernel closed the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GateRecord {
    /// Start.
    pub header: Header,
    /// The burst.
    pub burst: u64,
    /// What it had spent of the target's time.
    pub spent_ns: u64,
}

/// A block of pymalloc's that is about to be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FreedRecord {
    /// Start.
    pub header: Header,
    /// The size of its class.
    pub size: u64,
    /// Its first bytes, which may reach beyond its end: a header of up to 32 bytes, an object's count and type.
    pub content: [u64; FREED_WORDS],
}

/// Words of [`FreedRecord::content`].
pub const FREED_WORDS: usize = 6;

/// exit, exec, fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProcessRecord {
    /// Start.
    pub header: Header,
    /// The process (thread group) that it happened in.
    pub tgid: u64,
    /// fork: the new process; exit: the thread.
    pub subject: u64,
}
