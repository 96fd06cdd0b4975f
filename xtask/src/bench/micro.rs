//! How long leaktrace's own stages take, each by itself: leak-user's benchmarks, and what criterion wrote of them.

use super::machine;
use super::page::Page;
use crate::step;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

const INTRO: &str = "\
# leaktrace's own stages

Written by `cargo xtask bench micro`: the stages that run while a target is observed, each by itself, on what they
would be given at so many sites (`leak-user/benches/`). The time is leaktrace's own on a processor, system calls
included, and the median of 20 samples; **an item** is what the size counts last.
";

const COLUMNS: [&str; 6] = ["stage", "what", "size", "median", "an item", "machine"];

/// A result of criterion's.
struct Measured {
    stage: String,
    what: String,
    size: String,
    items: f64,
    median_ns: f64,
    written: SystemTime,
}

/// Runs the benchmarks.
///
/// # Errors
/// What couldn't be built, run, read or written.
pub fn run() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut bench = step::cargo();
    bench.args(["bench", "--package", "leak-user"]).env("CRITERION_HOME", home.path());
    step::run(&mut bench)?;
    let mut all = Vec::new();
    collect(home.path(), &mut all)?;
    all.sort_by_key(|measured| measured.written);
    let mut page = Page::anew("micro.md", INTRO, &COLUMNS);
    page.print_head();
    for Measured { stage, what, size, items, median_ns, .. } in all {
        let (median, item) = (time(median_ns), time(median_ns / items));
        page.put(vec![stage, what, size, median, item, machine::describe()])?;
    }
    Ok(())
}

/// Finds the results below a directory: each in two files of a directory `new`.
fn collect(directory: &Path, into: &mut Vec<Measured>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.ends_with("new") {
            into.push(read(&path)?);
        } else if path.is_dir() {
            collect(&path, into)?;
        }
    }
    Ok(())
}

fn read(directory: &Path) -> Result<Measured> {
    let file = |name| -> Result<Value> {
        let path = directory.join(name);
        let text = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let (benchmark, estimates) = (file("benchmark.json")?, file("estimates.json")?);
    let text =
        |value: &Value| value.as_str().context("a benchmark without a name").map(String::from);
    let number = |value: &Value| value.as_f64().context("a benchmark without figures");
    Ok(Measured {
        stage: text(&benchmark["group_id"])?,
        what: text(&benchmark["function_id"])?,
        size: text(&benchmark["value_str"])?,
        items: number(&benchmark["throughput"]["Elements"])?,
        median_ns: number(&estimates["median"]["point_estimate"])?,
        written: fs::metadata(directory.join("estimates.json"))?.modified()?,
    })
}

/// Three digits and a unit.
fn time(ns: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let (scale, unit) = units.into_iter().find(|(scale, _)| ns >= *scale).unwrap_or((1.0, "ns"));
    let value = ns / scale;
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let shown = [3.214, 45.67, 999.4, 12_345.0, 2.5e6, 1.5e9].map(time);
        assert_eq!(shown, ["3.21 ns", "45.7 ns", "999 ns", "12.3 µs", "2.50 ms", "1.50 s"]);
    }

    #[test]
    fn what_criterion_wrote_is_found() {
        let home = tempfile::tempdir().unwrap();
        let new = home.path().join("ledger/a burst/100 sites/new");
        fs::create_dir_all(&new).unwrap();
        let benchmark = serde_json::json!({
            "group_id": "ledger", "function_id": "a burst", "value_str": "100 sites",
            "throughput": {"Elements": 100},
        });
        let estimates = serde_json::json!({"median": {"point_estimate": 2500.0}});
        fs::write(new.join("benchmark.json"), benchmark.to_string()).unwrap();
        fs::write(new.join("estimates.json"), estimates.to_string()).unwrap();
        let mut all = Vec::new();
        collect(home.path(), &mut all).unwrap();
        let found = &all[0];
        assert_eq!(
            (all.len(), found.stage.as_str(), found.size.as_str()),
            (1, "ledger", "100 sites")
        );
        assert_eq!(found.median_ns / found.items, 25.0);
    }
}
