//! What the kernel says of the process, without probes.

pub mod split;
pub mod usage;
