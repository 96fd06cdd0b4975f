//! How often leaktrace is right: each program, leaking and clean, on each interpreter, many times.

use super::page::Page;
use super::{machine, statistics};
use anyhow::Result;
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Outcome};
use leak_tests::program::Program;

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
}

const INTRO: &str = "\
# Accuracy

Written by `cargo xtask bench verdicts`. Each run starts the program anew and observes it once. A verdict
is right if it is `leak` for the program that leaks and `no-leak` for the same program with its leak
switched off (`clean`). Rank 1 is right if the line accused first is one that its source marks as leaking.
The time is the median from leaktrace's start to its end.
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
    let mut page = Page::open("accuracy.md", INTRO, &COLUMNS, 4)?;
    page.print_head();
    for name in super::programs(&options.programs) {
        let program = Program::open(&name)?;
        for python in super::interpreters(&options.interpreters)? {
            for leaks in [true, false] {
                let row = measure(&program, &python, leaks, options)?;
                let variant = if leaks { "leaking" } else { "clean" };
                let identity = [&name, variant, python.name, &format!("{} s", options.seconds)]
                    .map(str::to_owned);
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
    let (mut right, mut first, mut others, mut took) = (0, 0, Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let running = program.start(python, arguments)?;
        let outcome = leaktrace::observe(running.target.pid(), options.seconds)?;
        let said = verdict(&outcome);
        if said == expected {
            right += 1;
        } else {
            others.push(said);
        }
        if outcome.report().is_ok_and(|report| program.is_culprit(&report["leaks"][0]["stack"])) {
            first += 1;
        }
        took.push(outcome.took.as_secs_f64());
    }
    let first = if leaks { format!("{first} of {}", options.runs) } else { "-".to_owned() };
    others.sort();
    others.dedup();
    Ok(vec![
        format!("{right} of {}", options.runs),
        first,
        others.join(", "),
        format!("{:.1} s", statistics::median(&mut took).unwrap_or(0.0)),
    ])
}

/// The verdict of a report, or how leaktrace failed.
fn verdict(outcome: &Outcome) -> String {
    match outcome.report() {
        Ok(report) => report["verdict"].as_str().unwrap_or("no verdict").to_owned(),
        Err(_) => format!("exit {:?}", outcome.code),
    }
}
