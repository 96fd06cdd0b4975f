//! What leaktrace takes for itself: processor time and memory, its helpers' included.

use super::machine;
use super::page::Page;
use super::resources::{SECOND, SETTLED, mib, resident, watch};
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/programs (repeatable)
    #[arg(long = "program", value_name = "NAME", default_values_t = ["small", "many_sites"].map(String::from))]
    programs: Vec<String>,
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME", default_value = "py3.11")]
    interpreters: Vec<String>,
    /// Length of an observation in seconds, at least 60
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(60..))]
    seconds: u32,
}

const INTRO: &str = "\
# What leaktrace takes for itself

Written by `cargo xtask bench own-cost`. The processor time is that of leaktrace and the small processes that
it starts: in percent of one core while observing, from the tenth second to the last; and, in seconds of one core, what
the start takes (the ten seconds before, in which the kernel verifies the programs), and what the report takes once, when
the observation is over (a leaking service's heap is searched for who keeps alive what piles up). Memory is what is resident, shared libraries and the ring buffer included: the
median of ten seconds after the tenth, halfway and at the end, and the most that it ever was.
";

const COLUMNS: [&str; 11] = [
    "program",
    "Python",
    "observed",
    "core, observing",
    "first 10 s",
    "report",
    "resident at 10 s",
    "halfway",
    "at the end",
    "peak",
    "machine",
];

/// Measures each program on each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("own-cost.md", INTRO, &COLUMNS, 3)?;
    page.print_head();
    for name in super::programs(&options.programs) {
        for python in super::interpreters(&options.interpreters)? {
            let row = measure(&Program::open(&name)?, &python, options)?;
            let observed = format!("{} s", options.seconds);
            let identity = [name.clone(), python.name.to_owned(), observed];
            page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
        }
    }
    Ok(())
}

fn measure(program: &Program, python: &Interpreter, options: &Options) -> Result<Vec<String>> {
    // Some seconds more than it takes to start leaktrace, and to have its report.
    let lives = (options.seconds + 60).to_string();
    let running = program.start(python, &["--seconds", &lives])?;
    let pid = running.target.pid().to_string();
    let before = children_seconds()?;
    let begun = Instant::now();
    let mut leaktrace = Command::new(leaktrace::binary()?)
        .args(["--pid", &pid, "--duration", &format!("{}s", options.seconds), "--quiet"])
        .stdout(Stdio::null())
        .spawn()?;
    let samples = watch(&mut leaktrace, SECOND)?;
    let whole = children_seconds()? - before;
    let settled = *samples.get(SETTLED).context("leaktrace ended too early")?;
    // It takes some time to start, so that this is before its end.
    let end = begun + Duration::from_secs(options.seconds.into());
    let last = samples.iter().rfind(|sample| sample.at < end).unwrap_or(&settled);
    let observing = (last.processor - settled.processor) / (last.at - settled.at).as_secs_f64();
    let peak = samples.iter().map(|sample| sample.peak_kb).fold(0.0, f64::max);
    Ok(vec![
        format!("{:.2} %", 100.0 * observing),
        format!("{:.2} s", settled.processor),
        format!("{:.2} s", (whole - last.processor).max(0.0)),
        mib(resident(&samples, SETTLED)),
        mib(resident(&samples, samples.len() / 2)),
        mib(resident(&samples, samples.len().saturating_sub(SETTLED))),
        mib(peak),
    ])
}

/// Processor time of all children that have been waited for, and of theirs.
fn children_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}
