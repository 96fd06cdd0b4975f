//! leaktrace's eBPF programs: what runs in the kernel when the target allocates, frees, maps, faults.
//!
//! Every program first asks whether it is the target's and whether the gate is open, then does as
//! little as it can: count, remember the block, and send a stack when it is new. Needs Linux 5.17
//! (`bpf_loop`).
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic addition has no stable name on this target")]

mod atomic;
mod context;
mod emit;
mod gate;
mod live;
mod log;
mod maps;
mod native;
mod object;
mod probes;
mod python;
mod sample;
mod user;
