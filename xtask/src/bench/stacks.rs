//! What native stacks cost: the same service traced without them, with their tops, and with whole ones.

use super::page::Page;
use super::{machine, statistics};
use anyhow::{Context as _, Result};
use leak_tests::interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use serde_json::Value;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/programs (repeatable)
    #[arg(long = "program", value_name = "NAME")]
    programs: Vec<String>,
    /// Rounds; each traces the running service in every way once
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of an observation in seconds
    #[arg(long, default_value_t = 6)]
    seconds: u32,
}

const INTRO: &str = "\
# Native stacks

Written by `cargo xtask bench stacks`. A service runs once and is traced in turns: without native stacks, as
by default (the top 8 KiB of a stack that may be new is copied, where malloc is called or memory mapped), and
with `--native` (32 KiB, and for small objects too). The table shows medians: what a probe hit cost the
target, how many of the recorded allocations came with a stack to copy, and how long leaktrace took to unwind
one.

A stack may be new if its Python frames, its depth, or one of its first 24 words that are addresses of code
are. Unwinding every stack in the kernel instead, by rows in maps, would spare the copy and cost each hit a
search in a table of 20,000 to 60,000 rows for every frame; here a hit costs one read and 24 comparisons
more, and one in some hundred allocations a copy.
";

const COLUMNS: [&str; 8] = [
    "program",
    "native stacks",
    "cost of a hit",
    "of that without",
    "allocations recorded",
    "stacks copied",
    "unwinding of one",
    "machine",
];

const WAYS: [(&str, Option<&str>); 3] = [
    ("none", Some("--no-native")),
    ("top (default)", None),
    ("whole (--native)", Some("--native")),
];

#[derive(Default)]
struct Samples {
    hit_ns: Vec<f64>,
    ratio: Vec<f64>,
    allocations: Vec<f64>,
    stacks: Vec<f64>,
    unwinding_us: Vec<f64>,
}

/// Measures each program.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let python = interpreter::find("py3.11").context("py3.11 isn't here")?;
    let mut page = Page::open("stacks.md", INTRO, &COLUMNS, 2)?;
    page.print_head();
    for name in super::programs(&options.programs) {
        let running = Program::open(&name)?.start(&python, &[])?;
        let pid = running.target.pid().to_string();
        let mut samples = WAYS.map(|_| Samples::default());
        for _ in 0..options.rounds {
            let mut without = None;
            for ((_, flag), samples) in WAYS.iter().zip(&mut samples) {
                let seconds = format!("{}s", options.seconds);
                let mut args = vec!["--pid", &pid, "--duration", &seconds, "--format", "json"];
                args.extend(flag);
                let report = leaktrace::run(&args)?.report()?;
                let cost = number(&report["overhead"]["ns_per_hit"])?;
                let without = *without.get_or_insert(cost);
                samples.add(&report, cost, without)?;
            }
        }
        for ((way, _), mut samples) in WAYS.into_iter().zip(samples) {
            let row = samples.row();
            page.put([name.clone(), way.to_owned()].into_iter().chain(row).collect())?;
        }
    }
    Ok(())
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("the report lacks a number")
}

impl Samples {
    fn add(&mut self, report: &Value, cost: f64, without: f64) -> Result<()> {
        let observed = &report["observed"];
        let stacks = number(&observed["native_stacks"])?;
        self.hit_ns.push(cost);
        self.ratio.push(cost / without);
        self.allocations.push(number(&observed["allocations"])?);
        self.stacks.push(stacks);
        if stacks > 0.0 {
            self.unwinding_us.push(1e3 * number(&observed["unwinding_ms"])? / stacks);
        }
        Ok(())
    }

    fn row(&mut self) -> Vec<String> {
        let median = |samples: &mut Vec<f64>| statistics::median(samples).unwrap_or(0.0);
        let unwinding = match self.unwinding_us.len() {
            0 => "-".to_owned(),
            _ => format!("{:.0} µs", median(&mut self.unwinding_us)),
        };
        vec![
            format!("{:.0} ns", median(&mut self.hit_ns)),
            format!("{:.2}", median(&mut self.ratio)),
            format!("{:.0}", median(&mut self.allocations)),
            format!("{:.0}", median(&mut self.stacks)),
            unwinding,
            machine::describe(),
        ]
    }
}
