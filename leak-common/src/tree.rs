//! The process tree that `--children` follows: what the user side tells the programs that keep it, and the
//! records that they send.

/// Where the kernel keeps what is asked of a task, offsets in bytes from its BTF. Set once, before loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TaskConfig {
    /// `task_struct.pid`: the thread.
    pub pid: u64,
    /// `task_struct.tgid`: the process.
    pub tgid: u64,
    /// `task_struct.mm`.
    pub mm: u64,
    /// `task_struct.signal`.
    pub signal: u64,
    /// `signal_struct.live`: how many threads the process still has.
    pub live: u64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TreeCounter {
    /// Processes born in the tree.
    Born,
    /// Of them, those that found no room among its members: neither they nor theirs are followed.
    NoRoom,
    /// Records that found no room in the ring.
    RingFull,
}

/// How many counters there are.
pub const TREE_COUNTERS: usize = TreeCounter::RingFull as usize + 1;

/// What a record is.
pub mod kind {
    /// A member made a process.
    pub const BORN: u32 = 1;
    /// A member replaced its program.
    pub const EXEC: u32 = 2;
    /// A member ended: its last thread did.
    pub const ENDED: u32 = 3;
}

/// One record. Process ids are those of the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TreeRecord {
    /// [`kind`].
    pub kind: u32,
    /// The process.
    pub pid: u32,
    /// Born: who made it.
    pub parent: u32,
    /// Born: 1 where it runs in its parent's memory until it replaces its program (`vfork`).
    pub shares_memory: u32,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The running thread's name: of a program that was just begun, its file's.
    pub name: [u8; 16],
}
