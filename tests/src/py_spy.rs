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

/// Compares its stacks with ours and the truth: frames are alike if file and line are, and the function
/// but for the class that it is in, which py-spy leaves out.
pub fn compare(truth: &[Truth], dump: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let threads = dump.as_array().map_or(&[][..], Vec::as_slice);
    for thread in truth {
        // Which of the two it knows depends on the version.
        let found = threads.iter().find(|found| {
            found["os_thread_id"] == thread.tid
                || thread.ident.is_some_and(|ident| found["thread_id"] == ident)
        });
        let found: Option<Vec<Frame>> = found.map(|found| frames(&found["frames"]));
        let expected: Vec<Frame> = thread.stack.iter().map(bare).collect();
        comparison.add(&thread.kind, &expected, found.as_deref());
    }
    comparison
}

fn frames(frames: &Value) -> Vec<Frame> {
    let text = |value: &Value| value.as_str().unwrap_or("no text").to_owned();
    let frames = frames.as_array().map_or(&[][..], Vec::as_slice);
    let frame = |frame: &Value| {
        let line = frame["line"].as_u64().unwrap_or(0);
        bare(&(text(&frame["name"]), text(&frame["filename"]), line))
    };
    frames.iter().map(frame).collect()
}

/// The frame with the function's own name.
fn bare((function, file, line): &Frame) -> Frame {
    let own = function.rsplit('.').next().unwrap_or(function);
    (own.to_owned(), file.clone(), *line)
}
