//! What each eBPF program takes the kernel's verifier.

use super::page::Page;
use super::{machine, statistics};
use anyhow::{Context as _, Result};
use leak_tests::leaktrace;
use leak_tests::program::Program;
use serde_json::Value;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// The target's interpreter: the programs are loaded as it needs them
    #[arg(long = "python", value_name = "NAME", default_value = "py3.11")]
    interpreter: String,
    /// How often each program is verified
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

const INTRO: &str = "\
# What the verifier takes

Written by `cargo xtask bench verifier`. The kernel verifies a program when it is loaded, most of leaktrace's at their
first use and side by side; here one after the other, as `leaktrace doctor` loads them for a process of the
interpreter that is named, with the options of a plain observation. **Instructions** are the program's own and those of
the functions that it calls; **gone through** is what the verifier made of them, on all paths that may differ (the
kernel allows a million). **Time** is the median of the rounds. **States** are those that the verifier kept to compare
others with: at most at one time, and in all. The programs `tree_…` come with `--children`, `thread_registers` with
`dump --native`.
";

const COLUMNS: [&str; 8] = [
    "program",
    "Python",
    "instructions",
    "gone through",
    "time",
    "states, peak and all",
    "machine code",
    "machine",
];

/// What the verifier says of one program.
struct Figures {
    name: String,
    instructions: u64,
    gone_through: u64,
    /// Of each round.
    millis: Vec<f64>,
    peak_states: u64,
    total_states: u64,
    machine_code: u64,
}

/// Asks `leaktrace doctor`, some times.
///
/// # Errors
/// What couldn't be started, verified or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::anew("verifier.md", INTRO, &COLUMNS);
    page.print_head();
    let python = super::these(std::slice::from_ref(&options.interpreter))?;
    let python = python.first().context("no interpreter")?;
    let running = Program::open("small")?.start(python, &[])?;
    let pid = running.target.pid().to_string();
    let mut programs: Vec<Figures> = Vec::new();
    for _ in 0..options.rounds {
        let doctor = leaktrace::run(&["doctor", "--pid", &pid, "--format", "json"])?.report()?;
        let found = doctor["process"]["programs"].as_array().context("no programs")?;
        for program in found {
            let figures = figures(program)?;
            match programs.iter_mut().find(|known| known.name == figures.name) {
                Some(known) => known.millis.extend(figures.millis),
                None => programs.push(figures),
            }
        }
    }
    programs.sort_by(|a, b| b.gone_through.cmp(&a.gone_through).then(a.name.cmp(&b.name)));
    programs.push(sum(&programs));
    for program in &mut programs {
        let time = statistics::median(&mut program.millis).context("no rounds")?;
        page.put(vec![
            program.name.clone(),
            python.name.to_owned(),
            program.instructions.to_string(),
            program.gone_through.to_string(),
            format!("{time:.1} ms"),
            format!("{}, {}", program.peak_states, program.total_states),
            format!("{:.1} KiB", program.machine_code as f64 / 1024.0),
            machine::describe(),
        ])?;
    }
    Ok(())
}

fn figures(program: &Value) -> Result<Figures> {
    let number = |value: &Value| value.as_u64().with_context(|| format!("no figures: {program}"));
    let verifier = &program["verifier"];
    Ok(Figures {
        name: program["name"].as_str().context("no name")?.to_owned(),
        instructions: number(&program["instructions"])?,
        gone_through: number(&verifier["instructions"])?,
        millis: vec![number(&verifier["ns"])? as f64 / 1e6],
        peak_states: number(&verifier["peak_states"])?,
        total_states: number(&verifier["total_states"])?,
        machine_code: number(&program["machine_code_bytes"])?,
    })
}

/// All of them, one after the other: their peak is the highest of theirs.
fn sum(programs: &[Figures]) -> Figures {
    let sum = |of: fn(&Figures) -> u64| programs.iter().map(of).sum();
    let rounds = programs.iter().map(|program| program.millis.len()).min().unwrap_or(0);
    let round = |at: usize| programs.iter().filter_map(|program| program.millis.get(at)).sum();
    Figures {
        name: "**all**".to_owned(),
        instructions: sum(|program| program.instructions),
        gone_through: sum(|program| program.gone_through),
        millis: (0..rounds).map(round).collect(),
        peak_states: programs.iter().map(|program| program.peak_states).max().unwrap_or(0),
        total_states: sum(|program| program.total_states),
        machine_code: sum(|program| program.machine_code),
    }
}
