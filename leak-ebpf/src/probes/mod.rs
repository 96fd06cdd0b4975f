//! One file a subject. Each probe is a thin entry that reads registers and calls what does the work.

mod gpu;
mod malloc;
mod process;
mod pyclass;
mod pymem;
mod vm;
