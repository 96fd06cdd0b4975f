//! What a probe hit costs, and at which instructions of each interpreter.

use super::machine;
use super::page::Page;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use serde_json::Value;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these interpreters (repeatable); all that are here, if none is named
    #[arg(long = "python", value_name = "NAME")]
    interpreters: Vec<String>,
}

const INTRO: &str = "\
# Probe hits

Written by `cargo xtask bench hits`. For each interpreter, the instruction that is probed in pymalloc's functions
and in the C library's (`malloc`, `calloc`, `realloc`, `free`), and how many of all the instructions the kernel must
step over instead of emulating them. **A trap** is what a hit costs while the gate is closed, measured on a throw-away
process; **a hit** the mean in an observation of `tests/programs/small.py` for five seconds, those at a closed gate
included: what is booked to the target, trap and program. A hit where the kernel must step over takes some ten times
as long as a trap, of which only the trap is booked.

Such instructions are left where a function moves its arguments to other registers before the first one that the
kernel emulates: in `valloc` and `pvalloc`, which hardly anything calls, and in `_PyObject_Calloc` and
`_PyObject_Realloc` of Debian's 3.14, whose functions are probed in the first burst only and its size classes watched
from then on.
";

const COLUMNS: [&str; 7] =
    ["Python", "version", "pymalloc", "C library", "stepped over", "ns a trap, a hit", "machine"];

/// The programs of one heap.
type Functions = [&'static str; 4];

const PYMALLOC: Functions =
    ["pymalloc_malloc", "pymalloc_calloc", "pymalloc_realloc", "pymalloc_free"];
const MALLOC: Functions = ["malloc_enter", "calloc_enter", "realloc_enter", "free_enter"];

/// Looks at each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("hits.md", INTRO, &COLUMNS, 1)?;
    page.print_head();
    let program = Program::open("small")?;
    for python in super::every_interpreter(&options.interpreters)? {
        let row = measure(&program, &python)?;
        page.put(
            [python.name.to_owned()].into_iter().chain(row).chain([machine::describe()]).collect(),
        )?;
    }
    Ok(())
}

fn measure(program: &Program, python: &Interpreter) -> Result<Vec<String>> {
    let running = program.start(python, &[])?;
    let pid = running.target.pid().to_string();
    let doctor = leaktrace::run(&["doctor", "--pid", &pid, "--format", "json"])?.report()?;
    let report = leaktrace::observe(running.target.pid(), 5)?.report()?;
    let points = doctor["process"]["points"].as_array().context("no points")?;
    let instructions = |functions: Functions| {
        let of = |function| points.iter().find(|point| point["program"] == function);
        let names = functions.map(|function| of(function).map_or("-", instruction));
        names.join(", ")
    };
    let stepped = points.iter().filter(|point| point["emulated"] == false).count();
    let trap = &doctor["calibration"]["ns_per_hit"];
    let hit = &report["overhead"]["ns_per_hit"];
    let number = |value: &Value| value.as_f64().context("no cost of a hit");
    Ok(vec![
        report["target"]["python"].as_str().unwrap_or("?").to_owned(),
        instructions(PYMALLOC),
        instructions(MALLOC),
        format!("{stepped} of {}", points.len()),
        format!("{:.0}, {:.0}", number(trap)?, number(hit)?),
    ])
}

fn instruction(point: &Value) -> &str {
    point["instruction"].as_str().unwrap_or("?")
}
