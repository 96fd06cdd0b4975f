//! The kernel side: which instructions are probed, loading, attaching, bursts and their budget.
//!
//! The only place that names aya. Needs Linux 5.17 with BTF, and CAP_BPF, CAP_PERFMON (attaching to
//! another user's process: CAP_SYS_PTRACE too).

pub mod account;
pub mod attach;
mod batch;
mod bpf;
pub mod budget;
pub mod burst;
pub mod calibrate;
pub mod classes;
pub mod error;
pub mod faults;
pub mod gpu;
pub mod keeper;
mod late;
pub mod log;
pub mod multi;
mod notes;
pub mod object;
pub mod outcome;
pub mod plan;
pub mod priority;
pub mod prologue;
mod relocated;
mod returns;
pub mod ring;
#[cfg(test)]
mod stack_tests;
pub mod tables;
pub mod threads;
pub mod tracefs;
pub mod tree;
pub mod turn;
pub mod verifier;
pub mod watch;
