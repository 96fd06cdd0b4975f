//! Real programs under real probes, with the truth beside them.
//!
//! `programs/` holds Python services that leak, or with `--clean` don't; each names in its comments
//! where. This library starts them, runs leaktrace on them, and knows what is true of them.

pub mod allocator;
pub mod interpreter;
pub mod leaktrace;
pub mod maps;
pub mod program;
pub mod py_spy;
pub mod report;
pub mod skip;
pub mod stacks;
pub mod target;
pub mod twin;
pub mod zoo;
