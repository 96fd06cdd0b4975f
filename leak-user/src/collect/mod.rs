//! From bytes that the kernel side sent to typed events.

pub mod decode;
pub mod tree;
