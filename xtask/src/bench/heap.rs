//! How fast a large heap is counted from outside, and what that takes, beside the collector's own list inside.

use super::machine;
use super::page::Page;
use super::resources::{mib, watch};
use super::statistics;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program;
use leak_tests::target::Target;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME", default_value = "py3.11")]
    interpreters: Vec<String>,
    /// Objects in the heap
    #[arg(long, default_value_t = 10_000_000)]
    objects: u64,
    /// Counts, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

const INTRO: &str = "\
# Counting a heap

Written by `cargo xtask bench heap`. `leaktrace heap` counts all objects of a process from outside, while it waits;
beside it, in turns, what objgraph does inside: a walk over `gc.get_objects()`, for which the process stands still and
which shows no text, number or bytes. Each time is the median of the rounds; leaktrace's is that of its report, from the
start of reading. Its memory is the most that was ever resident, shared libraries included. Who keeps the objects of a class
alive (`--why`, a hundred of them) is a run of leaktrace from its start to its end.
";

const COLUMNS: [&str; 11] = [
    "Python",
    "objects",
    "rounds",
    "took",
    "objects a second",
    "own memory",
    "inside: shown",
    "took, the process stopped",
    "who keeps them: took",
    "own memory",
    "machine",
];

/// Between two looks at leaktrace's memory.
const OFTEN: Duration = Duration::from_millis(5);

/// Inside, a walk over ten million objects takes seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures each interpreter.
///
/// # Errors
/// What couldn't be started, read or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("heap.md", INTRO, &COLUMNS, 2)?;
    page.print_head();
    for python in super::interpreters(&options.interpreters)? {
        let row = measure(&python, options)?;
        let machine = [machine::describe()];
        page.put([python.name.to_owned()].into_iter().chain(row).chain(machine).collect())?;
    }
    Ok(())
}

fn measure(python: &Interpreter, options: &Options) -> Result<Vec<String>> {
    let source = program::directory().join("many_objects.py");
    let mut target = Target::start(python, &source, &["--objects", &options.objects.to_string()])?;
    let folder = tempfile::tempdir()?;
    let (mut outside, mut inside, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    let (mut objects, mut shown) = (0, 0.0);
    let (mut searches, mut most_of_search) = (Vec::new(), 0.0_f64);
    for _ in 0..options.rounds {
        let path = folder.path().join("heap.json");
        let (report, most) = look(&target, &path, &[])?;
        peak = peak.max(most);
        outside.push(report["took_s"].as_f64().context("no time in the report")?);
        let types = report["types"].as_array().context("no types in the report")?;
        objects = types.iter().filter_map(|one| one["count"].as_u64()).sum();
        let begun = Instant::now();
        let (report, most) = look(&target, &path, &["--why", "__main__.Note"])?;
        searches.push(begun.elapsed().as_secs_f64());
        most_of_search = most_of_search.max(most);
        let held = report["why"]["groups"][0]["samples"].as_u64().context("nothing was found")?;
        anyhow::ensure!(held == 100, "only {held} of 100 hang in one way");
        target.tell("count\n")?;
        let said = target.line(LIMIT)?;
        let mut said = said.split_whitespace().map(str::parse::<f64>);
        inside.push(said.next().context("it said nothing")??);
        shown = said.next().context("it said too little")??;
    }
    let outside = statistics::median(&mut outside).context("no rounds")?;
    let inside = statistics::median(&mut inside).context("no rounds")?;
    let search = statistics::median(&mut searches).context("no rounds")?;
    Ok(vec![
        objects.to_string(),
        options.rounds.to_string(),
        format!("{outside:.2} s"),
        format!("{:.1} million", objects as f64 / outside / 1e6),
        mib(peak),
        format!("{shown:.0}"),
        format!("{inside:.2} s"),
        format!("{search:.1} s"),
        mib(most_of_search),
    ])
}

/// One run of `leaktrace heap`: its report, and the most memory that it took, in KiB.
fn look(target: &Target, path: &Path, more: &[&str]) -> Result<(Value, f64)> {
    let mut leaktrace = Command::new(leaktrace::binary()?)
        .args(["heap", "--pid", &target.pid().to_string(), "--format", "json"])
        .args(more)
        .stdout(fs::File::create(path)?)
        .stdin(Stdio::null())
        .spawn()?;
    let samples = watch(&mut leaktrace, OFTEN)?;
    let peak = samples.iter().fold(0.0_f64, |peak, sample| peak.max(sample.peak_kb));
    Ok((serde_json::from_slice(&fs::read(path)?)?, peak))
}
