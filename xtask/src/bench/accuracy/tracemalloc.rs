//! tracemalloc on the same services: two snapshots compared within the process, as its documentation has it.

use super::observed::Run;
use super::{Variant, name_of};
use anyhow::{Context as _, Result, ensure};
use leak_tests::interpreter::{self, Interpreter};
use leak_tests::target::Target;
use leak_tests::zoo::Specimen;
use serde_json::Value;
use std::time::Duration;

/// Starting, warming up and comparing take no longer beside the time between the snapshots.
const BESIDE: Duration = Duration::from_secs(180);

/// Runs the service under tracemalloc. It accuses nobody: a rank is that among the lines that grew, by what they grew.
pub(super) fn observe(
    specimen: &Specimen,
    variant: Variant,
    python: &Interpreter,
    seconds: u32,
) -> Result<Run> {
    let script = interpreter::root().join("tests/peers/tracemalloc_growth.py");
    let mut command =
        specimen.command(python, variant, &[&script.display().to_string(), &seconds.to_string()]);
    let mut target = Target::spawn(&mut command)?;
    let said = target.line(Duration::from_secs(u64::from(seconds)) + BESIDE)?;
    let found: Value = serde_json::from_str(&said)
        .with_context(|| format!("{} {}: {said}", specimen.name, name_of(variant)))?;
    let grown = found["grown"].as_array().context("no lines")?;
    ensure!(found["total"].is_i64(), "{}: no total", specimen.name);
    let rank = grown.iter().position(|line| specimen.is_culprit(&line["stack"])).map(|at| at + 1);
    Ok(Run { verdict: "none".to_owned(), rank, ..Run::default() })
}
