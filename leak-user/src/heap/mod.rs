//! The target's heap, read from outside: what the allocators say of a block, and what lies in it.
//!
//! Nothing here runs code in the target, stops it or writes to it. It goes on while it is read, so
//! every structure may be half changed: whatever is read is checked, bounded, and counted or answered
//! with «unknown» where it makes no sense.

pub mod collector;
pub mod glibc;
pub mod glibc_heaps;
pub mod growth;
pub mod identity;
pub mod names;
pub mod objects;
pub mod pymalloc;
pub mod rates;
pub mod references;
pub mod report;
pub mod retention;
pub mod surroundings;
pub mod types;

#[cfg(test)]
mod liar_tests;
#[cfg(test)]
pub(crate) mod testing;
