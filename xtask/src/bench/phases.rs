//! A long observation of a service whose work changes: leaktrace's memory, what each phase pays, and the report.

use super::awake::Awake;
use super::page::Page;
use super::requests::{Request, now, within, written_until};
use super::resources::{SECOND, SETTLED, Sample, mib, resident, watch};
use super::{machine, statistics};
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME", default_value = "py3.11")]
    interpreters: Vec<String>,
    /// Length of the observation in seconds
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(60..))]
    seconds: u32,
    /// Length of a phase in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    phase: u32,
}

const INTRO: &str = "\
# A service whose work changes

Written by `cargo xtask bench phases`. A service idles, churns, leaks and forks in turns, and is observed for long, under
the default budget. The slow-down of a phase is that of its mean request, in units of a fixed piece of Python timed right
after each, against the same phase in two rounds before and two rounds after the observation. Memory is leaktrace's own:
the median of ten seconds after the tenth, halfway and at the end. The report is right if it is `leak` and the line
accused first is one that leaks in its phase.
";

const COLUMNS: [&str; 12] = [
    "Python",
    "observed",
    "phases of",
    "slow-down: churn",
    "leak",
    "fork",
    "spent of a core, of its own work",
    "resident at 10 s",
    "halfway",
    "at the end",
    "report",
    "machine",
];

/// The program's phases, in their order.
const PHASES: [&str; 4] = ["idle", "churn", "leak", "fork"];

/// Rounds without leaktrace, before and after.
const ROUNDS: u32 = 2;

/// Measures each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let _awake = Awake::start()?;
    let mut page = Page::open("phases.md", INTRO, &COLUMNS, 3)?;
    page.print_head();
    for python in super::interpreters(&options.interpreters)? {
        let row = measure(&python, options)?;
        let identity = [
            python.name.to_owned(),
            format!("{} s", options.seconds),
            format!("{} s", options.phase),
        ];
        page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
    }
    Ok(())
}

fn measure(python: &Interpreter, options: &Options) -> Result<Vec<String>> {
    let program = Program::open("phases")?;
    let folder = tempfile::tempdir()?;
    let times = folder.path().join("times");
    let path = times.to_str().context("the temporary directory isn't UTF-8")?;
    let rest = Duration::from_secs(u64::from(ROUNDS * options.phase * PHASES.len() as u32));
    let lives = (u64::from(options.seconds) + 2 * rest.as_secs() + 60).to_string();
    let phase = options.phase.to_string();
    let running =
        program.start(python, &["--times", path, "--phase", &phase, "--seconds", &lives])?;

    let begun = now()?;
    thread::sleep(rest);
    let attached = now()?;
    let report = folder.path().join("report.json");
    let mut leaktrace = Command::new(leaktrace::binary()?)
        .args(["--pid", &running.target.pid().to_string(), "--quiet", "--format", "json"])
        .args(["--duration", &format!("{}s", options.seconds)])
        .stdout(fs::File::create(&report)?)
        .stdin(Stdio::null())
        .spawn()?;
    let samples = watch(&mut leaktrace, SECOND)?;
    let detached = now()?;
    thread::sleep(rest);
    let end = now()?;
    let requests = written_until(&times, end, Duration::from_secs(60))?;
    let report = serde_json::from_slice(&fs::read(report)?)?;

    let untraced = [within(&requests, (begun, attached)), within(&requests, (detached, end))];
    let traced = within(&requests, (attached, detached));
    let phase = i64::from(options.phase) * 1_000_000_000;
    let mut row = slow_downs(&traced, &untraced.concat(), phase)?;
    row.extend(told(&program, &report, &samples)?);
    Ok(row)
}

/// The slow-down of each phase in which there is something to do.
fn slow_downs(traced: &[Request], untraced: &[Request], phase: i64) -> Result<Vec<String>> {
    let mean = |requests: &[Request], which: usize| {
        let is_in = |request: &&Request| phase_of(request, phase) == Some(which);
        let lengths: Vec<f64> = requests.iter().filter(is_in).map(Request::corrected).collect();
        statistics::mean(&lengths).context("a phase without requests: observe for longer")
    };
    let slow_down = |which| {
        let ratio = mean(traced, which)? / mean(untraced, which)?;
        Ok(format!("{:.2} %", 100.0 * (ratio - 1.0)))
    };
    (1..PHASES.len()).map(slow_down).collect()
}

/// The phase that a request began and ended in.
fn phase_of(request: &Request, phase: i64) -> Option<usize> {
    let [begun, ended] = [request.begun, request.begun + request.length].map(|at| at / phase);
    let which = usize::try_from(begun).ok()? % PHASES.len();
    (begun == ended).then_some(which)
}

fn told(program: &Program, report: &Value, samples: &[Sample]) -> Result<Vec<String>> {
    let share = |place: &str| {
        let share = report.pointer(place).and_then(Value::as_f64);
        share.map(|share| format!("{:.2} %", 100.0 * share)).context("not in the report")
    };
    let right = report["verdict"] == "leak" && program.is_culprit(&report["leaks"][0]["stack"]);
    let verdict = report["verdict"].as_str().unwrap_or("?");
    let at = |second: usize| mib(resident(samples, second));
    Ok(vec![
        format!("{}, {}", share("/overhead/spent")?, share("/overhead/of_own_work")?),
        at(SETTLED),
        at(samples.len() / 2),
        at(samples.len().saturating_sub(SETTLED)),
        format!("{}{verdict}", if right { "right: " } else { "wrong: " }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_is_compared_with_itself() {
        let phase = 1000;
        let request = |begun: i64, length| Request { begun, length, reference: 1, compiled: 1 };
        // Phases of very different requests; those of the second take a tenth longer when traced.
        let all = |slower: i64| -> Vec<Request> {
            let length =
                |which: i64| [1, 10, 20, 40][which as usize] + i64::from(which == 1) * slower;
            (0..40).map(|n| request(n * 200, length(n / 5 % 4))).collect()
        };
        let row = slow_downs(&all(1), &all(0), phase).unwrap();
        assert_eq!(row, ["10.00 %", "0.00 %", "0.00 %"]);
        assert_eq!(phase_of(&request(1990, 20), phase), None);
    }
}
