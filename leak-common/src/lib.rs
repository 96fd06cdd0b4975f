//! What crosses the kernel boundary, and the arithmetic that both sides share.
//!
//! Everything here is `no_std`, `repr(C)`, made of integers, and without hidden padding: the eBPF
//! programs write it, the user side reads it as bytes. Fields are 8 bytes wide where that is cheap,
//! so that no struct needs padding.
#![no_std]

pub mod code;
pub mod config;
pub mod counters;
pub mod event;
pub mod frame;
pub mod gpu;
pub mod hash;
pub mod keys;
pub mod sampling;
pub mod threads;
pub mod tree;
#[cfg(feature = "user")]
mod user;

/// Bytes of a frame that hold all that the kernel side reads of it, in every version, but the index of the
/// instruction before 3.11.
pub const FRAME_BYTES: usize = 80;

/// Frames that one Python stack can hold. Deeper stacks are cut at the outer end and counted.
pub const MAX_FRAMES: usize = 128;
