//! How often leaktrace is right: each program, leaking and clean, on each interpreter, many times.

use super::page::Page;
use super::{machine, statistics};
use anyhow::{Result, bail};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Outcome};
use leak_tests::program::Program;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/programs (repeatable)
    #[arg(long = "program", value_name = "NAME")]
    programs: Vec<String>,
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME")]
    interpreters: Vec<String>,
    /// Runs of each program, leaking and clean, on each interpreter
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Length of an observation in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Runs side by side
    #[arg(long, default_value_t = 1)]
    at_a_time: u32,
}

const INTRO: &str = "\
# Verdicts on every interpreter

Written by `cargo xtask bench verdicts`. Each run starts the program anew and observes it once. A verdict
is right if it is `leak` for the program that leaks and `no-leak` for the same program with its leak
switched off (`clean`). Rank 1 is right if the line accused first is one that its source marks as leaking.
The time is the median from leaktrace's start to its end. Where several runs went on side by side, the
machine was that much busier. The reports of runs that were wrong are kept in target/verdicts.
";

const COLUMNS: [&str; 9] = [
    "program",
    "variant",
    "Python",
    "observed",
    "verdict right",
    "rank 1 right",
    "other verdicts",
    "time",
    "machine",
];

/// Measures each program, leaking and clean, on each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("verdicts.md", INTRO, &COLUMNS, 4)?;
    page.print_head();
    for name in super::programs(&options.programs) {
        let program = Program::open(&name)?;
        for python in super::interpreters(&options.interpreters)? {
            for leaks in [true, false] {
                let row = measure(&program, &python, leaks, options)?;
                let variant = if leaks { "leaking" } else { "clean" };
                let mut observed = format!("{} s", options.seconds);
                if options.at_a_time > 1 {
                    observed += &format!(", {} at a time", options.at_a_time);
                }
                let identity = [&name, variant, python.name, &observed].map(str::to_owned);
                page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
            }
        }
    }
    Ok(())
}

fn measure(
    program: &Program,
    python: &Interpreter,
    leaks: bool,
    options: &Options,
) -> Result<Vec<String>> {
    let arguments: &[&str] = if leaks { &[] } else { &["--clean"] };
    let expected = if leaks { "leak" } else { "no-leak" };
    let (mut right, mut first, mut took) = (0, 0, Vec::new());
    let mut others: BTreeMap<String, u32> = BTreeMap::new();
    for (number, outcome) in (1..).zip(outcomes(program, python, arguments, options)?) {
        let said = verdict(&outcome);
        let names_it =
            outcome.report().is_ok_and(|report| program.is_culprit(&report["leaks"][0]["stack"]));
        if said != expected || names_it != leaks {
            let name = program.path.file_stem().unwrap_or_default().to_string_lossy();
            keep(&outcome, &format!("{name}-{expected}-{}-{number}", python.name))?;
        }
        right += u32::from(said == expected);
        first += u32::from(names_it);
        if said != expected {
            *others.entry(said).or_default() += 1;
        }
        took.push(outcome.took.as_secs_f64());
    }
    let others: Vec<String> =
        others.into_iter().map(|(said, times)| format!("{times} {said}")).collect();
    Ok(vec![
        format!("{right} of {}", options.runs),
        if leaks { format!("{first} of {}", options.runs) } else { "-".to_owned() },
        others.join(", "),
        format!("{:.1} s", statistics::median(&mut took).unwrap_or(0.0)),
    ])
}

/// Observes the program as often as asked, so many at a time.
fn outcomes(
    program: &Program,
    python: &Interpreter,
    arguments: &[&str],
    options: &Options,
) -> Result<Vec<Outcome>> {
    let left = AtomicU32::new(options.runs);
    let take = |left: u32| left.checked_sub(1);
    let worker = || {
        let mut outcomes = Vec::new();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            let running = program.start(python, arguments)?;
            outcomes.push(leaktrace::observe(running.target.pid(), options.seconds)?);
        }
        Ok(outcomes)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..options.at_a_time).map(|_| scope.spawn(worker)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            let done: Result<Vec<Outcome>> =
                worker.join().unwrap_or_else(|_| bail!("a run panicked"));
            outcomes.extend(done?);
        }
        Ok(outcomes)
    })
}

/// Keeps what a wrong run printed, for whoever looks into it.
fn keep(outcome: &Outcome, name: &str) -> Result<()> {
    let folder = crate::step::root().join("target/verdicts");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.json")), &outcome.stdout)?;
    fs::write(folder.join(format!("{name}.txt")), &outcome.stderr)?;
    Ok(())
}

/// The verdict of a report, or how leaktrace failed.
fn verdict(outcome: &Outcome) -> String {
    match outcome.report() {
        Ok(report) => report["verdict"].as_str().unwrap_or("no verdict").to_owned(),
        Err(_) => format!("exit {:?}", outcome.code),
    }
}
