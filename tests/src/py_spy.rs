//! py-spy, a sampling profiler that reads the same stacks by other means.

use crate::interpreter;
use crate::stacks::{Comparison, Frame, Truth};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Its executable, as set-up installs it.
pub fn find() -> Option<PathBuf> {
    let equipped = interpreter::EQUIPPED.into_iter();
    equipped.map(|name| interpreter::home(name).join("bin/py-spy")).find(|path| path.exists())
}

/// Its own version: `0.4.3`.
///
/// # Errors
/// If it isn't here.
pub fn version() -> Result<String> {
    let output = Command::new(find().context("no py-spy")?).arg("--version").output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(said.trim_start_matches("py-spy ").to_owned())
}

/// Runs `py-spy dump --json`.
///
/// # Errors
/// What it says, if it fails.
pub fn dump(pid: u32) -> Result<Value> {
    let mut command = Command::new(find().context("no py-spy")?);
    // Not stopped, as leaktrace doesn't either; the zoo stands still anyway.
    command.args(["dump", "--json", "--nonblocking", "--pid", &pid.to_string()]);
    let output = command.env("RUST_BACKTRACE", "0").output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().next().unwrap_or("no reason"));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Compares its stacks with those of our dump ([`crate::stacks::as_dumped`]): function, file and line. Its
/// threads don't say of which interpreter they are, so a thread's nearest stack is taken.
pub fn compare(ours: &[Truth], theirs: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let threads = theirs.as_array().map_or(&[][..], Vec::as_slice);
    for thread in ours {
        // Which of the two ids it knows depends on the version.
        let of_thread = threads.iter().filter(|found| {
            found["os_thread_id"] == thread.tid
                || thread.ident.is_some_and(|ident| found["thread_id"] == ident)
        });
        let alike = |stack: &Vec<Frame>| {
            stack.iter().zip(&thread.stack).filter(|(one, other)| one == other).count()
        };
        let nearest = of_thread.map(stack).max_by_key(alike);
        comparison.add(&thread.kind, &thread.stack, nearest.as_deref());
    }
    comparison
}

/// A thread's stack, innermost frame first.
pub fn stack(thread: &Value) -> Vec<Frame> {
    let text = |value: &Value| value.as_str().unwrap_or("no text").to_owned();
    let frames = thread["frames"].as_array().map_or(&[][..], Vec::as_slice);
    let frame = |frame: &Value| {
        (text(&frame["name"]), text(&frame["filename"]), frame["line"].as_u64().unwrap_or(0))
    };
    frames.iter().map(frame).collect()
}
