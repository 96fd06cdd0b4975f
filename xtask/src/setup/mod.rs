//! `cargo xtask setup`: finds or installs what the build and the tests need.
//!
//! Each step first looks whether there is anything to do, says in a line what it found or did, and if
//! it can't go on, names the command that a person would run.

mod allocators;
pub mod built;
mod debian;
mod ebpf;
pub mod peers;
mod python;
#[expect(dead_code, reason = "leak-user/build.rs uses the rest")]
mod toolchain;
pub mod zoo;

use anyhow::{Context as _, Result};
use std::process::Command;

/// Runs all steps.
///
/// # Errors
/// The first step that failed, with the command to run by hand.
pub fn run() -> Result<()> {
    c_compiler()?;
    ebpf::toolchain()?;
    ebpf::linker()?;
    python::environments()?;
    debian::interpreters()?;
    allocators::libraries();
    Ok(())
}

fn say(step: &str, what: impl std::fmt::Display) {
    println!("setup: {step:<15} {what}");
}

/// Rust links through it, and some crates compile C.
fn c_compiler() -> Result<()> {
    let output = Command::new("cc").arg("--version").output();
    let output = output.context("there is no C compiler; run `apt-get install gcc libc6-dev`")?;
    let version = String::from_utf8_lossy(&output.stdout);
    say("C compiler", version.lines().next().unwrap_or("cc"));
    Ok(())
}
