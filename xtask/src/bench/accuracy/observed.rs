//! What one observation found, beside the truth.

use super::{Variant, expected, name_of};
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Outcome};
use leak_tests::zoo::Specimen;
use serde_json::Value;
use std::fs;

/// Resident memory tells the true growth no closer: pools have headers and room at their ends, holes are filled.
const TRUTH_ERROR: f64 = 0.05;

/// What one observation found.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// leaktrace's, or none where the tool gives none.
    pub verdict: String,
    /// The right line's, from 1.
    pub rank: Option<usize>,
    /// Lines that were accused and don't leak.
    pub falsely_accused: usize,
    /// Seconds since the start.
    pub accused_after: Option<f64>,
    /// What was told of the right lines' growth, as a part of the true one.
    pub growth: Option<f64>,
    /// The true growth lies in the interval told.
    pub within: bool,
    /// One of the right types is named.
    pub names_type: bool,
    /// Share of a core's time.
    pub spent: f64,
}

/// Observes it by leaktrace.
pub(super) fn observe(
    specimen: &Specimen,
    variant: Variant,
    python: &Interpreter,
    number: u32,
    seconds: u32,
) -> Result<Run> {
    let running = specimen.start(python, variant).with_context(|| specimen.name.clone())?;
    let outcome = leaktrace::observe(running.pid, seconds)?;
    let run = match outcome.report() {
        Ok(report) => Run::read(&report, specimen),
        Err(_) => Run { verdict: format!("exit {:?}", outcome.code), ..Run::default() },
    };
    if !run.is_right(variant) {
        keep(&outcome, &format!("{}-{}-{number}", specimen.name, name_of(variant)))?;
    }
    Ok(run)
}

impl Run {
    pub(super) fn read(report: &Value, specimen: &Specimen) -> Self {
        let leaks = report["leaks"].as_array().map_or(&[][..], Vec::as_slice);
        let (right, wrong): (Vec<_>, Vec<_>) =
            leaks.iter().enumerate().partition(|(_, leak)| specimen.is_culprit(&leak["stack"]));
        let since = |leak: &Value| {
            leak["accused_since_s"].as_f64().or(report["observed"]["duration_s"].as_f64())
        };
        let told: f64 =
            right.iter().filter_map(|(_, leak)| leak["growth_bytes_per_s"].as_f64()).sum();
        let [low, high] = interval(right.iter().map(|(_, leak)| *leak));
        let truth = report["memory"]["growth_bytes_per_s"].as_f64().filter(|truth| *truth > 0.0);
        let is_one = |kind: &Value| specimen.truth.types.iter().any(|one| kind["type"] == **one);
        let names_type =
            |leak: &Value| leak["types"].as_array().is_some_and(|all| all.iter().any(is_one));
        Self {
            verdict: report["verdict"].as_str().unwrap_or("no verdict").to_owned(),
            rank: right.first().map(|(at, _)| at + 1),
            falsely_accused: wrong.len(),
            accused_after: right.iter().filter_map(|(_, leak)| since(leak)).min_by(f64::total_cmp),
            growth: truth.map(|truth| told / truth).filter(|_| !right.is_empty()),
            within: truth.is_some_and(|truth| {
                low <= truth * (1.0 + TRUTH_ERROR) && high >= truth * (1.0 - TRUTH_ERROR)
            }),
            names_type: right.iter().any(|(_, leak)| names_type(leak)),
            spent: report["overhead"]["spent"].as_f64().unwrap_or(0.0),
        }
    }

    fn is_right(&self, variant: Variant) -> bool {
        let first = (variant == Variant::Leaking).then_some(1);
        self.verdict == expected(variant) && self.rank == first && self.falsely_accused == 0
    }
}

/// Of the sum of what is told of independent lines: half widths add in quadrature.
fn interval<'a>(leaks: impl Iterator<Item = &'a Value>) -> [f64; 2] {
    let (mut sum, mut below, mut above) = (0.0, 0.0f64, 0.0f64);
    for leak in leaks {
        let told = leak["growth_bytes_per_s"].as_f64().unwrap_or(0.0);
        let end = |at: usize| leak["growth_interval"][at].as_f64().unwrap_or(told);
        sum += told;
        below = below.hypot(told - end(0));
        above = above.hypot(end(1) - told);
    }
    [sum - below, sum + above]
}

/// Keeps what a wrong run printed, for whoever looks into it.
fn keep(outcome: &Outcome, name: &str) -> Result<()> {
    let folder = crate::step::root().join("target/accuracy");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.json")), &outcome.stdout)?;
    fs::write(folder.join(format!("{name}.txt")), &outcome.stderr)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use leak_tests::zoo;
    use serde_json::json;

    #[test]
    fn the_first_right_line_gives_the_rank() {
        let specimen = Specimen::open("dict_cache").unwrap();
        let run = zoo::directory().join("dict_cache/run.py");
        let text = fs::read_to_string(&run).unwrap();
        let leaking = 1 + text.lines().position(|line| line.ends_with("# LEAK")).unwrap();
        let leak = |line: usize, kind: &str| {
            json!({"stack": [{"kind": "python", "file": run, "line": line}],
                   "types": [{"type": kind}], "growth_bytes_per_s": 90.0, "growth_interval": [80.0, 105.0]})
        };
        let report = json!({
            "verdict": "leak",
            "leaks": [leak(1, "builtins.int"), leak(leaking, "__main__.Offer")],
            "observed": {"duration_s": 60.0},
            "memory": {"growth_bytes_per_s": 100.0},
            "overhead": {"spent": 0.009},
        });
        let run = Run::read(&report, &specimen);
        assert_eq!((run.rank, run.falsely_accused, run.accused_after), (Some(2), 1, Some(60.0)));
        assert_eq!((run.growth, run.within, run.names_type), (Some(0.9), true, true));
        assert!(!run.is_right(Variant::Leaking));
    }
}
