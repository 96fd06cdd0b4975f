//! What leaktrace can do with each interpreter: stacks against the interpreter's own word, a leak named, the
//! target unharmed; and py-spy's stacks beside ours.

use super::machine;
use super::page::Page;
use anyhow::{Result, bail};
use leak_tests::interpreter::{self, Interpreter};
use leak_tests::program::Program;
use leak_tests::stacks::Comparison;
use leak_tests::{leaktrace, py_spy, stacks, twin};
use std::fmt::Write as _;
use std::fs;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME")]
    interpreters: Vec<String>,
    /// Length of the observation that has to name a leak, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// Length of the other observations.
const SHORT: u32 = 5;

const INTRO: &str = "\
# Interpreters

Written by `cargo xtask bench interpreters`. `pyX.Y` is a build of upstream's source as pyenv makes it (shared,
not stripped), `debianX.Y` Debian's (static, stripped).

- **dump**: frames of `tests/programs/stacks.py` that `leaktrace dump` shows as the interpreter itself does
  (`sys._current_frames()`): function, file and line, in the same place of the same thread's stack. The
  program has a thread for each kind of stack: deep recursion, generators, coroutines in a loop, callbacks
  through C, methods of nested classes, executed code, greenlets where they are installed, and more.
- **kernel's walk**: the same stacks as the eBPF programs walk them while each thread maps memory; at most 128
  frames of each are followed.
- **leak named**: `tests/programs/small.py` is accused at rank 1, at a line that its source marks as leaking.
- **coverage**: the share of pymalloc's events that were seen in that observation; none where size classes are
  watched instead.
- **unharmed**: a computation that was observed has the results and the memory of one that wasn't
  (`tests/programs/result_check.py`).
- **py-spy**: frames of the same dump that `py-spy dump --json` shows, too; and the kinds of stack in which the
  two differ.

py-spy shows the code's plain name where leaktrace shows the qualified one (3.11 and later), and is compared by
that. leaktrace lists a thread for each interpreter that it runs in, py-spy the main interpreter's; leaktrace
lists threads without Python, py-spy doesn't. Where they differ, what the interpreter itself says decides: it
is what the column **dump** compares with.

Two limits are the interpreter's. Code that was executed once and dropped (`exec` of a text) is gone by the time
that its frames are looked up; its frames are shown as `?`, or as what has taken its place. Before 3.12 an
interpreter that was made in one thread and runs in another is listed with the thread that made it.
";

const COLUMNS: [&str; 10] = [
    "Python",
    "version",
    "dump",
    "kernel's walk",
    "leak named",
    "coverage",
    "unharmed",
    "py-spy",
    "differs from py-spy in",
    "machine",
];

/// Measures each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("interpreters.md", INTRO, &COLUMNS, 1)?;
    page.print_head();
    let known: Vec<&str> = interpreter::EQUIPPED.into_iter().chain(interpreter::BARE).collect();
    if let Some(name) = options.interpreters.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("{name} isn't one of {known:?}");
    }
    let wanted = |name: &&&str| {
        options.interpreters.is_empty() || options.interpreters.iter().any(|one| one == **name)
    };
    for name in known.iter().filter(wanted) {
        let cells = match interpreter::find(name) {
            Some(python) => measure(&python, options.seconds)?,
            None => {
                let mut cells = vec!["skipped: not on this machine".to_owned()];
                cells.resize(COLUMNS.len() - 2, "-".to_owned());
                cells
            }
        };
        let row = [(*name).to_owned()].into_iter().chain(cells);
        page.put(row.chain([machine::describe()]).collect())?;
    }
    Ok(())
}

/// All cells but the interpreter's name and the machine's.
fn measure(python: &Interpreter, seconds: u32) -> Result<Vec<String>> {
    let mut wrong = String::new();
    let mut note = |what: &str, comparison: &Comparison| {
        for difference in &comparison.differences {
            // Writing to a String cannot fail.
            let _ = writeln!(wrong, "{what}: {difference}");
        }
        comparison.counts()
    };

    let (mut target, truth) = stacks::start(python, "stacks.py")?;
    let dump = stacks::dump(target.pid())?;
    let version = dump["target"]["python"].as_str().unwrap_or("?").to_owned();
    let dumped = note("dump", &stacks::compare_dump(&truth, &dump));
    let (spied, differing) = match py_spy::dump(target.pid()) {
        Ok(theirs) => {
            let comparison = py_spy::compare(&stacks::as_dumped(&truth, &dump), &theirs);
            let kinds = comparison.differences.iter().filter_map(|line| line.split(':').next());
            let kinds: Vec<&str> = kinds.collect();
            let all = kinds.len() == truth.len();
            (note("py-spy", &comparison), if all { "all".to_owned() } else { kinds.join(", ") })
        }
        Err(error) => ("none".to_owned(), format!("all: {error}")),
    };
    let report = stacks::observe_mappings(&mut target, SHORT)?;
    let walked = note("kernel's walk", &stacks::compare_sites(&truth, &report));
    drop(target);

    let program = Program::open("small")?;
    let running = program.start(python, &[])?;
    let report = leaktrace::observe(running.target.pid(), seconds)?.report()?;
    drop(running);
    let named = if program.is_culprit(&report["leaks"][0]["stack"]) {
        format!("yes, in {seconds} s")
    } else {
        let _ = writeln!(wrong, "leak: {report:#}");
        format!("no ({})", report["verdict"].as_str().unwrap_or("no verdict"))
    };
    let coverage = report["coverage"]["pymalloc"].as_f64();
    let coverage =
        coverage.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share));

    let target = twin::start(python, &[])?;
    let outcome = leaktrace::observe(target.pid(), SHORT)?;
    if outcome.code != Some(0) {
        bail!("{outcome:?}");
    }
    let harm = twin::differences(python, target)?;
    let _ = write!(wrong, "{}", harm.join("\n"));
    let unharmed = if harm.is_empty() { "yes" } else { "no" }.to_owned();
    keep(python.name, &wrong)?;
    Ok(vec![version, dumped, walked, named, coverage, unharmed, spied, differing])
}

/// Keeps what was not as it should be, for whoever looks into it.
fn keep(name: &str, wrong: &str) -> Result<()> {
    let folder = crate::step::root().join("target/interpreters");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("{name}.txt")), wrong)?)
}
