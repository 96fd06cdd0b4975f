//! Programs that leak, each observed once.

use super::Options;
use anyhow::{Context as _, Result, ensure};
use leak_tests::leaktrace::{self, Leaktrace};
use leak_tests::program::Program;
use leak_tests::target::Target;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// A program and how it is run.
pub struct Case {
    /// How it is called in the table.
    pub name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case { name: "real_malloc", program: "real_malloc", args: &[] },
    Case { name: "real_tensors", program: "real_tensors", args: &[] },
    Case { name: "real_tensors --expandable", program: "real_tensors", args: &["--expandable"] },
    Case { name: "real_graph", program: "real_graph", args: &[] },
    Case { name: "real_pinned", program: "real_pinned", args: &[] },
    Case { name: "real_cupy", program: "real_cupy", args: &[] },
];

/// Sums may differ by this part.
const TOLERANCE: f64 = 0.01;

const ANSWER: Duration = Duration::from_secs(30);

/// What a check found.
pub struct Found {
    /// The row, from the verdict to what the driver says.
    pub cells: Vec<String>,
    /// What was not as it should be.
    pub wrong: Vec<String>,
}

/// All programs.
pub fn all() -> impl Iterator<Item = Case> {
    CASES.into_iter()
}

/// Starts a program of `tests/programs` with the Python that is checked.
pub fn start(name: &str, args: &[&str], options: &Options) -> Result<Target> {
    let path = leak_tests::program::directory().join(format!("{name}.py"));
    Target::spawn(Command::new(&options.python).arg(path).args(args))
}

/// A program's own figures.
pub fn figures(target: &mut Target, ask: &str) -> Result<Value> {
    target.tell(ask)?;
    Ok(serde_json::from_str(&target.line(ANSWER)?)?)
}

/// Observes one.
///
/// # Errors
/// What couldn't be started or traced.
pub fn check(case: &Case, options: &Options) -> Result<Found> {
    let program = Program::open(case.program)?;
    let mut target = start(case.program, case.args, options)?;
    let observing = Leaktrace::start(Command::new(leaktrace::binary()?).args([
        "--pid",
        &target.pid().to_string(),
        "--format",
        "json",
        "--duration",
        "60s",
    ]))?;
    std::thread::sleep(Duration::from_secs(options.seconds.into()));
    let own = figures(&mut target, "pause\n")?;
    observing.signal(Signal::SIGINT)?;
    let outcome = observing.wait()?;
    let report = outcome.report()?;
    ensure!(target.ended()?.is_none(), "the program ended");
    judge(&program, &own, &report)
}

fn judge(program: &Program, own: &Value, report: &Value) -> Result<Found> {
    let mut wrong = Vec::new();
    if report["verdict"] != "leak" {
        wrong.push(format!("the verdict is {}", report["verdict"]));
    }
    let leaks = report["leaks"].as_array().context("a report")?;
    let of_domain = leaks.iter().find(|leak| leak["domain"] == program.domain.as_str());
    let line = of_domain.and_then(|leak| own_line(program, leak));
    if !line.is_some_and(|line| program.leaks.iter().any(|leak| leak.line == line)) {
        wrong.push(format!("the leak was not named: {line:?}"));
    }
    let torch = &report["gpu"]["torch"][0];
    let mut cells = vec![
        report["verdict"].as_str().unwrap_or("?").to_owned(),
        line.map_or_else(|| "no".to_owned(), |line| format!("line {line}")),
        of_domain.map_or_else(String::new, |leak| {
            format!("{:.2} MiB/s", leak["growth_bytes_per_s"].as_f64().unwrap_or(0.0) / 1048576.0)
        }),
    ];
    let held = || kept(program, report);
    let sums = [
        (own["allocated"].as_u64(), torch["allocated_bytes"].as_u64()),
        (own["reserved"].as_u64(), torch["reserved_bytes"].as_u64()),
    ];
    for (what, (theirs, ours)) in ["allocated", "reserved"].into_iter().zip(sums) {
        match (theirs, ours) {
            (Some(theirs), Some(ours)) => {
                cells.push(format!("{}, {}", mib(theirs), mib(ours)));
                if (theirs as f64 - ours as f64).abs() > TOLERANCE * theirs as f64 {
                    wrong.push(format!("{what}: torch says {theirs}, leaktrace {ours}"));
                }
            }
            // What is kept by other means: leaktrace has seen it only since it came.
            _ if what == "allocated" => {
                let theirs = ["held", "used"].iter().find_map(|name| own[*name].as_u64());
                cells.push(format!("{}, {} since it came", mib(theirs.unwrap_or(0)), mib(held())));
            }
            _ => cells.push(own["total"].as_u64().map_or_else(|| "–".to_owned(), mib)),
        }
    }
    cells.push(process(report));
    Ok(Found { cells, wrong })
}

/// The innermost line of the program's own file.
fn own_line(program: &Program, leak: &Value) -> Option<u64> {
    let frames = leak["stack"].as_array()?;
    let own = frames.iter().find(|frame| {
        frame["file"]
            .as_str()
            .is_some_and(|file| program.path.ends_with(file.trim_start_matches('/')))
    });
    own?["line"].as_u64()
}

/// What calls handed out while leaktrace was there, and is still held; of tensors what they were.
fn kept(program: &Program, report: &Value) -> u64 {
    let kinds = report["gpu"]["memory"].as_array().map_or(&[][..], Vec::as_slice);
    let of_domain =
        kinds.iter().filter(|kind| (kind["kind"] == "tensor") == (program.domain == "torch"));
    of_domain.filter_map(|kind| kind["live_bytes"].as_u64()).sum()
}

/// What the driver says that the process has, and how much of it nothing accounts for.
fn process(report: &Value) -> String {
    let Some(process) = report["gpu"]["devices"][0]["process_bytes"].as_u64() else {
        return "not known".to_owned();
    };
    let reserved = report["gpu"]["torch"][0]["reserved_bytes"].as_u64().unwrap_or(0);
    format!("{}, {}", mib(process), mib(process.saturating_sub(reserved)))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1048576.0)
}
