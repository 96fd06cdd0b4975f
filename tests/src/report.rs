//! A report of an observation, shown short where a test fails.

use crate::leaktrace;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::fmt;
use std::ops::Deref;

/// Seconds that tell on most machines, and those within which a user is promised an answer.
pub const LENGTHS: [u32; 2] = [12, 60];

/// Sites that are shown of each kind, and frames of each.
const SITES: usize = 3;
const FRAMES: usize = 4;

/// What leaktrace reported.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Deref for Report {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

/// Observes a process until the verdict stands: for 12 s, and where those were too few (a slow machine, others' work
/// beside it), for a minute. A wrong verdict stands as well.
///
/// # Errors
/// If leaktrace can't be run, fails or reports nothing.
pub fn judged(pid: u32) -> Result<Report> {
    judged_with(pid, &[])
}

/// The same with more arguments.
///
/// # Errors
/// As [`judged`].
pub fn judged_with(pid: u32, args: &[&str]) -> Result<Report> {
    let [short, promised] = LENGTHS;
    let first = observed(pid, short, args)?;
    if first["verdict"] != "inconclusive" {
        return Ok(first);
    }
    println!("{short} s were too few: {first}");
    observed(pid, promised, args)
}

fn observed(pid: u32, seconds: u32, args: &[&str]) -> Result<Report> {
    let outcome = leaktrace::observe_with(pid, seconds, args)?;
    ensure!(outcome.code == Some(0), "leaktrace failed: {outcome:?}");
    Ok(Report(outcome.report()?))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self["verdict"])?;
        for part in ["reasons", "unseen"] {
            for line in self[part].as_array().into_iter().flatten() {
                writeln!(f, "  {part}: {line}")?;
            }
        }
        for kind in ["leaks", "sites"] {
            for site in self[kind].as_array().into_iter().flatten().take(SITES) {
                write_site(f, kind, site)?;
            }
        }
        for part in ["observed", "overhead", "coverage", "losses"] {
            writeln!(f, "  {part}: {}", self[part])?;
        }
        Ok(())
    }
}

fn write_site(f: &mut fmt::Formatter<'_>, kind: &str, site: &Value) -> fmt::Result {
    write!(f, "  {kind}:")?;
    for what in ["domain", "confidence", "trend", "survival", "growth_bytes_per_s", "live_count"] {
        write!(f, " {what} {}", site[what])?;
    }
    writeln!(f, "\n    reasons {}\n    retained_by {}", site["reasons"], site["retained_by"])?;
    for frame in site["stack"].as_array().into_iter().flatten().take(FRAMES) {
        writeln!(f, "    at {} {}:{}", frame["function"], frame["file"], frame["line"])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_matters_is_shown() {
        let frame = json!({"function": "keep", "file": "app.py", "line": 7});
        let leak = json!({"domain": "pymalloc", "reasons": ["they stay"], "stack": [frame]});
        let shown = Report(json!({"verdict": "leak", "leaks": [leak]})).to_string();
        for words in ["leak", "pymalloc", "they stay", "\"keep\" \"app.py\":7"] {
            assert!(shown.contains(words), "{shown}");
        }
    }
}
