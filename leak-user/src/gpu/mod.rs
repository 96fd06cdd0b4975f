//! GPUs: which calls of their libraries hand out memory, where those lie in the target, and what the driver's
//! management library says of devices.

pub mod calls;
pub mod libraries;
pub mod nvml;
