//! How well it is told what is allocated a second, beside what the program itself counts.

use super::machine;
use super::page::Page;
use super::statistics::{median, quantile};
use anyhow::{Context as _, Result, ensure};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program;
use leak_tests::target::Target;
use serde_json::Value;
use std::time::Duration;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME")]
    interpreters: Vec<String>,
    /// Observations of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Their length in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(10..))]
    seconds: u32,
}

const INTRO: &str = "\
# What is allocated a second

Written by `cargo xtask bench rates`. A program makes and drops objects of some types, keeps those of one, and counts
them. Told of `leaktrace heap --watch --rates`, at the default 1 %, as a part of what the program made meanwhile: the
median of the runs, and the least and most. The error is what leaktrace says itself of how fast it goes, as a part of
that. Runs in which it said nothing yet have no part in the rest.
";

const COLUMNS: [&str; 9] = [
    "Python",
    "observed",
    "runs",
    "said nothing",
    "Token (most)",
    "Point (half as many)",
    "Rare (a thirtieth)",
    "Kept",
    "error said; machine",
];

/// The columns' types.
const TYPES: [&str; 4] = ["Token", "Point", "Rare", "Kept"];

/// The program answers at once.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures each interpreter.
///
/// # Errors
/// What couldn't be started, read or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("rates.md", INTRO, &COLUMNS, 2)?;
    page.print_head();
    for python in super::every_interpreter(&options.interpreters)? {
        let row = measure(&python, options)?;
        let observed = format!("{} s", options.seconds);
        page.put([python.name.to_owned(), observed].into_iter().chain(row).collect())?;
    }
    Ok(())
}

fn measure(python: &Interpreter, options: &Options) -> Result<Vec<String>> {
    let (mut ratios, mut errors, mut silent) = ([const { Vec::new() }; TYPES.len()], Vec::new(), 0);
    let mut inlined = false;
    for _ in 0..options.runs {
        let (found, truths) = observe(python, options.seconds)?;
        let Some(per_s) = found["per_s"].as_f64() else {
            silent += 1;
            inlined |= found["unknown"].as_str().is_some_and(|why| why.contains("no probe sees"));
            continue;
        };
        errors.push(found["error_per_s"].as_f64().context("no error")? / per_s);
        let types = found["types"].as_array().context("no types")?;
        for ((name, truth), ratios) in TYPES.iter().zip(truths).zip(&mut ratios) {
            let named = format!("__main__.{name}");
            let told = types.iter().find(|one| one["type"] == *named);
            ratios.push(told.and_then(|one| one["per_s"].as_f64()).unwrap_or(0.0) / truth);
        }
    }
    let cells = ratios.iter_mut().map(|ratios| shown(ratios));
    let error = median(&mut errors).map_or("-".to_owned(), |error| format!("{error:.2}"));
    let silent =
        if inlined { format!("{silent}: not known of this build") } else { silent.to_string() };
    let machine = machine::describe();
    Ok([options.runs.to_string(), silent]
        .into_iter()
        .chain(cells)
        .chain([format!("{error}; {machine}")])
        .collect())
}

fn shown(ratios: &mut [f64]) -> String {
    let ends = quantile(ratios, 0.0).zip(quantile(ratios, 1.0));
    let middle = median(ratios).zip(ends);
    middle.map_or("-".to_owned(), |(middle, (least, most))| {
        format!("{middle:.2} ({least:.2}-{most:.2})")
    })
}

/// What was told at the last look, and what the program made of each type in a second.
fn observe(python: &Interpreter, seconds: u32) -> Result<(Value, [f64; TYPES.len()])> {
    let mut target = Target::start(python, &program::directory().join("churning.py"), &[])?;
    let before = made(&mut target)?;
    let (pid, duration) = (target.pid().to_string(), format!("{seconds}s"));
    let arguments = ["heap", "--pid", &pid, "--rates", "--format", "json", "--watch", "5s"];
    let outcome = leaktrace::run(&[&arguments[..], &["--duration", &duration]].concat())?;
    let after = made(&mut target)?;
    ensure!(outcome.code == Some(0), "leaktrace failed: {outcome:?}");
    let last = outcome.stdout.lines().last().context("no look")?;
    let last: Value = serde_json::from_str(last)?;
    let counted = |name: &str| {
        let of = |counts: &Value| counts[name].as_f64().with_context(|| format!("no {name}"));
        Ok::<_, anyhow::Error>(of(&after)? - of(&before)?)
    };
    let passed = counted("seconds")?;
    let mut truths = [0.0; TYPES.len()];
    for (truth, name) in truths.iter_mut().zip(TYPES) {
        *truth = counted(name)? / passed;
    }
    Ok((last["allocations"].clone(), truths))
}

/// What the program has made so far.
fn made(target: &mut Target) -> Result<Value> {
    target.tell("count\n")?;
    Ok(serde_json::from_str(&target.line(LIMIT)?)?)
}
