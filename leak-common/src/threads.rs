//! Where the threads of a process wait: what the user side tells the program that reads their registers, and the
//! records that it gives.

use crate::event::Registers;

/// Whose threads, and where the kernel keeps what is asked of them. Set once, before loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadsConfig {
    /// The process, as the initial pid namespace numbers it.
    pub process: u64,
    /// `task_struct.pid`: the thread.
    pub pid: u64,
    /// `task_struct.tgid`: the process.
    pub tgid: u64,
}

/// One thread: its registers as it entered the kernel last. Of a thread that does not run, those that it will
/// go on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadRecord {
    /// Its id in the initial pid namespace.
    pub tid: u64,
    /// They.
    pub registers: Registers,
}
