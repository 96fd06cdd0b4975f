//! A traced computation against one that was never traced (`programs/result_check.py`).

use crate::interpreter::Interpreter;
use crate::program;
use crate::target::Target;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::time::Duration;

/// How much the memory of two untraced twins may differ: addresses, which differ, decide the order of
/// some hash tables, and glibc's arenas and the thread stacks that it keeps depend on timing.
const TOLERANCES: [(&str, u64); 4] =
    [("blocks", 16), ("objects", 2), ("own", 2 << 20), ("maps", 4)];

/// Starts the computation.
///
/// # Errors
/// If it doesn't come up.
pub fn start(python: &Interpreter, args: &[&str]) -> Result<Target> {
    Target::start(python, &program::directory().join("result_check.py"), args)
}

/// Ends the computation and compares it with one that was never traced; a line for each fact in which
/// they differ.
///
/// # Errors
/// If one of them ended by itself, or doesn't come to its end.
pub fn differences(python: &Interpreter, mut target: Target) -> Result<Vec<String>> {
    if let Some(status) = target.ended()? {
        return Ok(vec![format!("the target ended: {status}")]);
    }
    target.tell("stop\n")?;
    let traced: Value = serde_json::from_str(&target.line(Duration::from_secs(60))?)?;
    let rounds = traced["rounds"].as_u64().filter(|rounds| *rounds > 0).context("no rounds")?;
    let mut twin = start(python, &["--rounds", &rounds.to_string()])?;
    let untraced: Value = serde_json::from_str(&twin.line(Duration::from_secs(600))?)?;
    let mut differences = Vec::new();
    let mut differ = |fact: &str, same: bool| {
        if !same {
            differences.push(format!("{fact}: {traced} but untraced {untraced}"));
        }
    };
    for fact in ["rounds", "digest", "kept"] {
        differ(fact, !traced[fact].is_null() && traced[fact] == untraced[fact]);
    }
    for (fact, tolerance) in TOLERANCES {
        // Fewer than at the start is possible, too.
        let both = traced[fact].as_i64().zip(untraced[fact].as_i64());
        differ(fact, both.is_some_and(|(a, b)| a.abs_diff(b) <= tolerance));
    }
    Ok(differences)
}
