//! py-spy, a sampling profiler that reads the same stacks by other means.

use crate::interpreter;
use crate::stacks::{Comparison, Frame, Truth};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Kinds of stack for want of which it shows no process's compiled code at all: it can't tell which frames of Python's
/// belong to which calls of the interpreter's loop where stacks are switched.
pub const NOT_MERGED: [&str; 2] = ["greenlets", "gevent_pool"];

/// Builds of whose compiled code it shows nothing, or puts all of it before Python's frames: it needs the symbol of the
/// whole of the interpreter's loop, threads' ids, and a library that is not under another root.
pub const NOT_FOUND: [&str; 4] = ["debian3.9", "debian3.14", "debian3.15", "shared3.15"];

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
    // Not stopped, as leaktrace doesn't either; the zoo stands still anyway.
    dumped(pid, "--nonblocking")
}

/// The same with compiled code's frames, for which it stops the process.
///
/// # Errors
/// As [`dump`].
pub fn dump_native(pid: u32) -> Result<Value> {
    dumped(pid, "--native")
}

fn dumped(pid: u32, how: &str) -> Result<Value> {
    let mut command = Command::new(find().context("no py-spy")?);
    command.args(["dump", "--json", how, "--pid", &pid.to_string()]);
    let output = command.env("RUST_BACKTRACE", "0").output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // The last line is the innermost cause.
        bail!("{}", said.lines().last().unwrap_or("no reason").trim());
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

/// Counts which of its frames, Python's and compiled code's, our dump has in the same order. It leaves out much of the
/// interpreter's own code, so ours has more.
pub fn compare_native(ours: &Value, theirs: &Value) -> Comparison {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut comparison = Comparison::default();
    for thread in list(theirs) {
        let is_it = |one: &&Value| {
            thread["os_thread_id"] == one["tid"] || thread["thread_id"] == one["ident"]
        };
        let ours = list(ours).iter().find(is_it).map_or_else(Vec::new, |one| list(&one["stack"]));
        let frames = list(&thread["frames"]);
        let missing = left_over(&frames, &ours);
        comparison.frames += frames.len();
        comparison.equal += frames.len() - missing.len();
        let name = &thread["thread_name"];
        comparison.differences.extend(missing.into_iter().map(|frame| format!("{name}: {frame}")));
    }
    comparison
}

/// What of `theirs` is not among `ours` in the same order, at the least.
fn left_over<'a>(theirs: &'a [Value], ours: &[Value]) -> Vec<&'a Value> {
    // common[i][j]: how many of theirs from i on are among ours from j on.
    let mut common = vec![vec![0; ours.len() + 1]; theirs.len() + 1];
    for i in (0..theirs.len()).rev() {
        for j in (0..ours.len()).rev() {
            let skipped = common[i + 1][j].max(common[i][j + 1]);
            let taken = usize::from(is_same(&ours[j], &theirs[i])) * (1 + common[i + 1][j + 1]);
            common[i][j] = skipped.max(taken);
        }
    }
    let (mut j, mut missing) = (0, Vec::new());
    for (i, frame) in theirs.iter().enumerate() {
        while j < ours.len() && common[i][j] == common[i][j + 1] {
            j += 1;
        }
        if common[i][j] == common[i + 1][j] {
            missing.push(frame);
        } else {
            j += 1;
        }
    }
    missing
}

/// Is our frame the one that it shows? Where it knows no name, it shows an address.
fn is_same(ours: &Value, theirs: &Value) -> bool {
    let name = theirs["name"].as_str().unwrap_or("no name");
    if theirs["module"].is_null() {
        return ours["kind"] == "python"
            && ours["function"] == name
            && ours["file"] == theirs["filename"]
            && ours["line"] == theirs["line"];
    }
    // What the compiler made of a function has its name and a suffix; the C library's functions have several names,
    // such as `read` and `__GI___libc_read`.
    let plain = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let (name, own) = (plain(name), plain(ours["function"].as_str().unwrap_or("no name")));
    // Under another root, the path begins elsewhere.
    let module = |frame: &Value| frame["module"].as_str()?.rsplit('/').next().map(str::to_owned);
    let unnamed = name.starts_with("0x");
    ours["kind"] == "native"
        && module(ours) == module(theirs)
        && (own == name || is_alias(&own, &name) || unnamed)
}

/// `__GI___libc_read` and `read`.
fn is_alias(ours: &str, theirs: &str) -> bool {
    ours.starts_with("__") && theirs.len() > 3 && ours.ends_with(theirs)
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
