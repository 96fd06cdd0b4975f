//! How soon leaktrace has something to say: its first burst, and since when it has accused the right line.

use super::page::Page;
use super::requests::now;
use super::{machine, statistics};
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use serde_json::Value;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/programs (repeatable)
    #[arg(long = "program", value_name = "NAME", default_value = "small")]
    programs: Vec<String>,
    /// Requests a second, 0: back to back (repeatable). At 140, the small-object service leaks some 50 kB a second
    #[arg(long = "rate", value_name = "RATE", default_values_t = [0, 140])]
    rates: Vec<u32>,
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME", default_value = "py3.11")]
    interpreters: Vec<String>,
    /// Observations of each
    #[arg(long, default_value_t = 10)]
    runs: u32,
    /// Length of an observation in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

const INTRO: &str = "\
# Time to the verdict

Written by `cargo xtask bench verdict-time`. Each run starts the program anew and observes it once, under the default
budget. All times are from the start of leaktrace's process: to the opening of the first burst, and to the judgement
that first accused a line that the program's source marks as leaking, and from which on that line was accused without a
break, to the observation's end. Judgements on the way come each time that the observation has become longer by a tenth.
Medians over the runs, and the longest.
";

const COLUMNS: [&str; 11] = [
    "program",
    "requests a second",
    "Python",
    "observed",
    "growth",
    "runs",
    "first burst",
    "longest",
    "right line accused after",
    "longest",
    "machine",
];

/// Measures each program at each pace on each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let mut page = Page::open("verdict-time.md", INTRO, &COLUMNS, 4)?;
    page.print_head();
    for name in &options.programs {
        let program = Program::open(name)?;
        for &rate in &options.rates {
            for python in super::interpreters(&options.interpreters)? {
                let row = measure(&program, rate, &python, options)?;
                let pace = if rate == 0 { "back to back".to_owned() } else { rate.to_string() };
                let observed = format!("{} s", options.seconds);
                let identity = [name.clone(), pace, python.name.to_owned(), observed];
                page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
            }
        }
    }
    Ok(())
}

fn measure(
    program: &Program,
    rate: u32,
    python: &Interpreter,
    options: &Options,
) -> Result<Vec<String>> {
    let mut runs = Vec::new();
    for _ in 0..options.runs {
        let running = program.start(python, &["--rate", &rate.to_string()])?;
        let begun = now()?;
        let outcome = leaktrace::observe(running.target.pid(), options.seconds)?;
        if outcome.code != Some(0) {
            bail!("leaktrace failed: {outcome:?}");
        }
        runs.push(Run::read(&outcome.report()?, program, begun)?);
    }
    Ok(summarise(&runs))
}

/// Seconds from leaktrace's start.
struct Run {
    first_burst: f64,
    /// None: the right line isn't accused at the end.
    accused: Option<f64>,
    /// Growth of resident memory, bytes a second.
    growth: f64,
}

impl Run {
    fn read(report: &Value, program: &Program, begun: i64) -> Result<Self> {
        let start = report["observed"]["start_ns"].as_i64().context("no start in the report")?;
        let start_s = (start - begun) as f64 / 1e9;
        let first_burst = report["observed"]["first_burst_s"].as_f64().context("no burst")?;
        let leaks = report["leaks"].as_array().map_or(&[][..], Vec::as_slice);
        let right = leaks.iter().filter(|leak| program.is_culprit(&leak["stack"]));
        let end = report["observed"]["duration_s"].as_f64();
        // Whom no judgement on the way accused, the last one did.
        let since = right.filter_map(|leak| leak["accused_since_s"].as_f64().or(end));
        Ok(Self {
            first_burst: start_s + first_burst,
            accused: since.min_by(f64::total_cmp).map(|since| start_s + since),
            growth: report["memory"]["growth_bytes_per_s"].as_f64().unwrap_or(0.0),
        })
    }
}

fn summarise(runs: &[Run]) -> Vec<String> {
    let all = |figure: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(figure).collect() };
    let seconds = |time: Option<f64>| match time {
        Some(time) if time.is_finite() => format!("{time:.2} s"),
        Some(_) => "never".to_owned(),
        None => "-".to_owned(),
    };
    let middle = |mut times: Vec<f64>| seconds(statistics::median(&mut times));
    let longest = |times: Vec<f64>| seconds(times.into_iter().max_by(f64::total_cmp));
    let growth = statistics::median(&mut all(|run| run.growth)).unwrap_or(0.0);
    // One that never came is later than all others.
    let accused = all(|run| run.accused.unwrap_or(f64::INFINITY));
    let never = accused.iter().filter(|time| time.is_infinite()).count();
    vec![
        format!("{:.0} kB/s", growth / 1000.0),
        runs.len().to_string(),
        middle(all(|run| run.first_burst)),
        longest(all(|run| run.first_burst)),
        middle(accused.clone()),
        if never == 0 { longest(accused) } else { format!("never in {never}") },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_never_accused_is_told() {
        let run = |accused| Run { first_burst: 0.25, accused, growth: 50_000.0 };
        let row = summarise(&[run(Some(4.0)), run(Some(4.5)), run(None)]);
        assert_eq!(row, ["50 kB/s", "3", "0.25 s", "0.25 s", "4.50 s", "never in 1"]);
        let row = summarise(&[run(Some(4.0)), run(Some(4.5)), run(Some(5.0))]);
        assert_eq!(row[4..], ["4.50 s", "5.00 s"]);
    }

    #[test]
    fn only_the_right_line_counts() {
        let program = Program::open("small").unwrap();
        let line = program.leaks[0].line;
        let leak = |line, since: Option<f64>| {
            serde_json::json!({"accused_since_s": since, "stack": [{
                "kind": "python", "function": program.leaks[0].function, "file": program.path, "line": line,
            }]})
        };
        let report = |leaks: &[Value]| {
            serde_json::json!({
                "observed": {"start_ns": 1_500_000_000, "first_burst_s": 0.5, "duration_s": 30.0},
                "memory": {"growth_bytes_per_s": 1.0}, "leaks": leaks,
            })
        };
        let run = |leaks: &[Value]| Run::read(&report(leaks), &program, 1_000_000_000).unwrap();
        let both = run(&[leak(line + 1000, Some(4.0)), leak(line, Some(6.0))]);
        assert_eq!((both.first_burst, both.accused), (1.0, Some(6.5)));
        assert_eq!(run(&[leak(line, None)]).accused, Some(30.5));
        assert_eq!(run(&[leak(line + 1000, Some(4.0))]).accused, None);
    }
}
