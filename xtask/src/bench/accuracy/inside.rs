//! Tools that run within the service, on the same services.

use super::observed::Run;
use super::{Variant, name_of};
use anyhow::{Context as _, Result};
use leak_tests::interpreter::{self, Interpreter};
use leak_tests::target::Target;
use leak_tests::zoo::Specimen;
use serde_json::Value;
use std::time::Duration;

/// Starting, warming up and comparing take no longer beside the time that is observed.
const BESIDE: Duration = Duration::from_secs(180);

/// Runs the service with a tool of `tests/peers/growth.py`. It accuses nobody: a rank is that among the lines or types
/// that grew, by what they grew.
pub(super) fn observe(
    tool: &str,
    specimen: &Specimen,
    variant: Variant,
    python: &Interpreter,
    seconds: u32,
) -> Result<Run> {
    let script = interpreter::root().join("tests/peers/growth.py").display().to_string();
    let mut command = specimen.command(python, variant, &[&script, tool, &seconds.to_string()]);
    let mut target = Target::spawn(&mut command)?;
    let said = target.line(Duration::from_secs(u64::from(seconds)) + BESIDE)?;
    let what = || format!("{} {}: {said}", specimen.name, name_of(variant));
    let grown: Vec<Value> = serde_json::from_str(&said).with_context(what)?;
    let is_right = |one: &Value| match &one["type"] {
        Value::String(name) => specimen.truth.types.contains(name),
        _ => specimen.is_culprit(&one["stack"]),
    };
    let rank = grown.iter().position(is_right).map(|at| at + 1);
    Ok(Run { verdict: "none".to_owned(), rank, ..Run::default() })
}
