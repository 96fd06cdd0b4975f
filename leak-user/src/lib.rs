//! Finds memory leaks in live Python processes, from outside.
//!
//! The data flows one way: `probe` (the kernel side, attached) → `collect` → `symbolize` → `ledger` →
//! `verdict` → `snapshot` → `sink`. ARCHITECTURE.md has the map.

pub mod cli;
pub mod clock;
pub mod collect;
pub mod commands;
pub mod dump;
pub mod gpu;
pub mod heap;
pub mod ledger;
pub mod probe;
pub mod session;
pub mod sink;
pub mod snapshot;
pub mod symbolize;
pub mod target;
pub mod tree;
pub mod units;
pub mod verdict;
pub mod watch;
