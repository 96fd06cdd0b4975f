//! From addresses to names: code objects to functions and lines, return addresses to symbols, lines to
//! their text.

pub mod code;
pub mod linetable;
pub mod merge;
pub mod modules;
pub mod native;
pub mod source;
pub mod stacks;
pub mod unicode;
pub mod unwind;

#[cfg(test)]
mod testing;
