//! What leaktrace can do with each interpreter: stacks against the interpreter's own word, a leak named, the
//! target unharmed; and py-spy's stacks beside ours.

use super::machine;
use super::page::Page;
use anyhow::{Result, bail};
use leak_tests::interpreter::{self, Interpreter};
use leak_tests::program::{self, Program};
use leak_tests::stacks::{self, Comparison, Frame, Possible, Truth};
use leak_tests::target::Target;
use leak_tests::{leaktrace, py_spy, twin};
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

/// Dumps of threads that run.
const DUMPS: u32 = 20;

/// A cell of what wasn't measured.
const NOTHING: &str = "-";

const INTRO: &str = "\
# Interpreters

Written by `cargo xtask bench interpreters`. `pyX.Y` is a build of upstream's source as pyenv makes it (shared,
not stripped), `debianX.Y` Debian's (static, stripped), `sharedX.Y` Debian's library in a program of our own, `pyX.Yt` a build without
a GIL, `muslX.Y` one on musl.

- **dump**: frames of `tests/programs/stacks.py` that `leaktrace dump` shows as the interpreter itself does
  (`sys._current_frames()`): function, file and line, in the same place of the same thread's stack. The
  program has a thread for each kind of stack: deep recursion, generators, coroutines in a loop, callbacks
  through C, methods of nested classes, executed code, greenlets where they are installed, and more.
- **native**: the same with compiled code's frames around them (`leaktrace dump --native`), and of how many
  threads compiled code was followed from where it waits to the thread's start.
- **others**: the same for two interpreters beside the main one, each with threads
  (`tests/programs/subinterpreters.py`).
- **kernel's walk**: the same stacks as the eBPF programs walk them while each thread maps memory; at most 128
  frames of each are followed.
- **leak named**: `tests/programs/small.py` is accused at rank 1, at a line that its source marks as leaking.
- **coverage**: the share of pymalloc's events that were seen in that observation; none where size classes are
  watched instead.
- **unharmed**: a computation that was observed has the results and the memory of one that wasn't
  (`tests/programs/result_check.py`).
- **running**: of 20 dumps of `tests/programs/busy_stacks.py`, whose four threads hardly ever rest, the stacks that
  were read whole, and those that can't be, by the lines that call. What isn't whole is said to be so.
- **py-spy**: frames of our dump, function, file and line, that `py-spy dump --json` shows, too; and the kinds of
  stack in which the two differ. **py-spy's native**: of the frames that `py-spy dump --native` shows of the same program
  (without the two kinds that switch stacks), Python's and compiled code's, those that ours shows in the same order.
  **others by py-spy** and **running by py-spy** are the same for the other two
  programs. It is run with `--nonblocking`, since leaktrace stops nobody either.

Where the two differ, what the interpreter itself says decides: it is what the first columns compare with. py-spy
walks one interpreter, which need not be the main one; leaktrace walks all, and lists a thread for each that
it runs in. py-spy reads a running thread's frames once, so that it fails or mixes calls where frames change
meanwhile; leaktrace reads them until its readings agree. leaktrace lists threads without Python, py-spy
doesn't.

With `--native`, py-spy stops the process to read its threads' registers; leaktrace reads those that the kernel keeps
of each thread that waits, and says of a thread that runs that it does. py-spy leaves out most of the interpreter's own
frames; leaktrace shows all but the loop's, in whose place Python's are, and the functions that the compiler has put
into others. py-spy shows no dump at all where one thread has switched its stack (greenlets); of Debian's 3.14 and 3.15,
whose loop lies in several parts, it puts all Python frames behind compiled code's; and of a line that calls, it shows
the line where the call goes on, which may be the next one.

Two limits are the interpreter's. Code that was executed once and dropped (`exec` of a text) is gone by the time
that its frames are looked up; its frames are shown as `?`, or as what has taken its place. Before 3.12 an
interpreter that was made in one thread and runs in another is listed with the thread that made it.
";

const COLUMNS: [&str; 16] = [
    "Python",
    "version",
    "dump",
    "native",
    "others",
    "running",
    "kernel's walk",
    "leak named",
    "coverage",
    "unharmed",
    "py-spy",
    "differs from py-spy in",
    "py-spy's native",
    "others by py-spy",
    "running by py-spy",
    "machine",
];

/// Measures each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("interpreters.md", INTRO, &COLUMNS, 1)?;
    page.print_head();
    let known: Vec<&str> = super::known().collect();
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
                cells.resize(COLUMNS.len() - 2, NOTHING.to_owned());
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
    let (mut target, truth) = stacks::start(python, "stacks.py")?;
    let dump = stacks::dump(target.pid())?;
    let version = dump["target"]["python"].as_str().unwrap_or("?").to_owned();
    let dumped = counts(&stacks::compare_dump(&truth, &dump), "dump", &mut wrong);
    let native = native(&target, &truth, &mut wrong)?;
    let ours = stacks::as_dumped(&truth, &dump);
    let (spied, differing) = spied(&target, &ours, "py-spy", &mut wrong);
    let report = stacks::observe_mappings(&mut target, SHORT)?;
    let walked = counts(&stacks::compare_sites(&truth, &report), "kernel's walk", &mut wrong);
    drop(target);
    let native_spied = native_spied(python, &mut wrong)?;

    let (target, truth) = stacks::start(python, "subinterpreters.py")?;
    let dump = stacks::dump(target.pid())?;
    let mut comparison = stacks::compare_dump(&truth, &dump);
    // The main thread is there, and says nothing of itself.
    comparison.differences.retain(|line| !line.starts_with("not as it should be"));
    let others = counts(&comparison, "others", &mut wrong);
    let ours = stacks::as_dumped(&truth, &dump);
    let (others_spied, _) = self::spied(&target, &ours, "others by py-spy", &mut wrong);
    drop(target);

    let (running, running_spied) = running(python, &mut wrong)?;
    let (named, coverage) = leak(python, seconds, &mut wrong)?;
    let unharmed = harm(python, &mut wrong)?;
    keep(python.name, &wrong)?;
    Ok(vec![
        version,
        dumped,
        native,
        others,
        running,
        walked,
        named,
        coverage,
        unharmed,
        spied,
        differing,
        native_spied,
        others_spied,
        running_spied,
    ])
}

/// `2480 of 2480`; notes the differences.
fn counts(comparison: &Comparison, what: &str, wrong: &mut String) -> String {
    for difference in &comparison.differences {
        // Writing to a String cannot fail.
        let _ = writeln!(wrong, "{what}: {difference}");
    }
    comparison.counts()
}

/// With compiled code's frames: Python's are the same, and how many threads' stacks are whole.
fn native(target: &Target, truth: &[Truth], wrong: &mut String) -> Result<String> {
    let dump = stacks::dump_native(target.pid())?;
    let frames = counts(&stacks::compare_dump(truth, &dump), "native", wrong);
    let threads = dump["threads"].as_array().map_or(&[][..], Vec::as_slice);
    let whole = threads.iter().filter(|thread| thread["native_problem"].is_null()).count();
    Ok(format!("{frames}, {whole} of {} threads whole", threads.len()))
}

/// How many of the frames that py-spy shows, Python's and compiled code's, are in ours in the same order.
fn native_spied(python: &Interpreter, wrong: &mut String) -> Result<String> {
    let (target, _) = stacks::start_with(python, "stacks.py", &py_spy::NOT_MERGED)?;
    let ours = stacks::dump_native(target.pid())?;
    Ok(match py_spy::dump_native(target.pid()) {
        Ok(theirs) => {
            counts(&py_spy::compare_native(&ours["threads"], &theirs), "py-spy's native", wrong)
        }
        Err(error) => format!("none: {error}"),
    })
}

/// How many of our frames py-spy shows, and the kinds of stack where it differs.
fn spied(target: &Target, ours: &[Truth], what: &str, wrong: &mut String) -> (String, String) {
    match py_spy::dump(target.pid()) {
        Ok(theirs) => {
            let comparison = py_spy::compare(ours, &theirs);
            let kinds = comparison.differences.iter().filter_map(|line| line.split(':').next());
            let kinds: Vec<&str> = kinds.collect();
            let all = kinds.len() == ours.len();
            let kinds = if all { "all".to_owned() } else { kinds.join(", ") };
            (counts(&comparison, what, wrong), kinds)
        }
        Err(error) => {
            let _ = writeln!(wrong, "{what}: {error}");
            ("none".to_owned(), format!("all: {error}"))
        }
    }
}

/// Stacks of threads that run: ours and py-spy's.
fn running(python: &Interpreter, wrong: &mut String) -> Result<(String, String)> {
    const FILE: &str = "busy_stacks.py";
    let possible = Possible::open(FILE)?;
    let target = Target::start(python, &program::directory().join(FILE), &[])?;
    let mut impossible = |stack: &[Frame], what: &str| {
        let contradiction = possible.contradiction(stack);
        if let Some(contradiction) = &contradiction {
            let _ = writeln!(wrong, "{what}: {contradiction}");
        }
        u32::from(contradiction.is_some())
    };
    let (mut all, mut whole, mut ours) = (0, 0, 0);
    let (mut failed, mut seen, mut theirs) = (0, 0, 0);
    for _ in 0..DUMPS {
        let dump = stacks::dump(target.pid())?;
        for thread in dump["threads"].as_array().map_or(&[][..], Vec::as_slice) {
            all += 1;
            whole += u32::from(stacks::is_whole(thread));
            ours += impossible(&stacks::frames(&thread["stack"]), "running");
        }
        let Ok(dump) = py_spy::dump(target.pid()) else {
            failed += 1;
            continue;
        };
        for thread in dump.as_array().map_or(&[][..], Vec::as_slice) {
            seen += 1;
            theirs += impossible(&py_spy::stack(thread), "running by py-spy");
        }
    }
    Ok((
        format!("{whole} of {all} whole, {ours} impossible"),
        format!("{failed} of {DUMPS} dumps failed, {theirs} of {seen} stacks impossible"),
    ))
}

/// Is the leak named, and what share of the events was seen?
fn leak(python: &Interpreter, seconds: u32, wrong: &mut String) -> Result<(String, String)> {
    let program = Program::open("small")?;
    let running = program.start(python, &[])?;
    let report = leaktrace::observe(running.target.pid(), seconds)?.report()?;
    let named = if program.is_culprit(&report["leaks"][0]["stack"]) {
        format!("yes, in {seconds} s")
    } else {
        let _ = writeln!(wrong, "leak: {report:#}");
        format!("no ({})", report["verdict"].as_str().unwrap_or("no verdict"))
    };
    let coverage = report["coverage"]["pymalloc"].as_f64();
    let coverage =
        coverage.map_or_else(|| NOTHING.to_owned(), |share| format!("{:.1} %", 100.0 * share));
    Ok((named, coverage))
}

/// Does an observed computation equal one that wasn't?
fn harm(python: &Interpreter, wrong: &mut String) -> Result<String> {
    let target = twin::start(python, &[])?;
    let outcome = leaktrace::observe(target.pid(), SHORT)?;
    if outcome.code != Some(0) {
        bail!("{outcome:?}");
    }
    let differences = twin::differences(python, target)?;
    for difference in &differences {
        let _ = writeln!(wrong, "harm: {difference}");
    }
    Ok(if differences.is_empty() { "yes" } else { "no" }.to_owned())
}

/// Keeps what was not as it should be, for whoever looks into it.
fn keep(name: &str, wrong: &str) -> Result<()> {
    let folder = crate::step::root().join("target/interpreters");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("{name}.txt")), wrong)?)
}
