//! What leaktrace costs: the request times of a service while it is traced and while it isn't, in turns
//! within one run of it.

use super::awake::Awake;
use super::page::Page;
use super::requests::{Period, Request, now, within, written_until};
use super::{machine, statistics};
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use std::fs;
use std::thread;
use std::time::Duration;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/programs (repeatable)
    #[arg(long = "program", value_name = "NAME")]
    programs: Vec<String>,
    /// Only these interpreters (repeatable)
    #[arg(long = "python", value_name = "NAME", default_value = "py3.11")]
    interpreters: Vec<String>,
    /// Traced periods, each compared with the untraced ones before and after it
    #[arg(long, default_value_t = 10)]
    pairs: u32,
    /// Length of a period in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Measure another process of the same program, which nobody traces, while the one is traced
    #[arg(long)]
    bystander: bool,
    /// Leaktrace's budget
    #[arg(long, default_value = "1%")]
    budget: String,
}

const INTRO: &str = "\
# Overhead

Written by `cargo xtask bench overhead`. A service runs once; leaktrace is attached to it, for some
seconds, ended, and attached again. A ratio compares the requests of one traced period, from the start of
leaktrace's process to its end, with those of the untraced periods just before and after. The table shows
the median of the ratios of the median request time, an interval that holds it with 95 % probability, and
the medians of the ratios of the mean and of the 99th percentile.

The speed of a virtual machine jumps by half from one second to the next. So a fixed piece of Python that
allocates nothing is timed right after each request, and a request counts in units of it; the column \"as
measured\" shows the ratio of the median request times without that.

Each service runs at its own pace; a thread of the idle
class keeps every core awake, since one that falls asleep between requests makes the first microseconds of
the next one slow, and leaktrace's own work would wake it.

A bystander is a process of the same program beside the traced one: its own requests are what counts.
";

const COLUMNS: [&str; 11] = [
    "program",
    "Python",
    "budget",
    "pairs",
    "request",
    "median ratio",
    "95 % interval",
    "as measured",
    "mean ratio",
    "p99 ratio",
    "machine",
];

/// Measures each program on each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let _awake = Awake::start()?;
    let mut page = Page::open("overhead.md", INTRO, &COLUMNS, 3)?;
    page.print_head();
    for name in super::workloads(&options.programs) {
        for python in super::interpreters(&options.interpreters)? {
            let row = measure(&Program::open(&name)?, &python, options)?;
            let bystander = if options.bystander { ", bystander" } else { "" };
            let identity =
                [format!("{name}{bystander}"), python.name.to_owned(), options.budget.clone()];
            page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
        }
    }
    Ok(())
}

fn measure(program: &Program, python: &Interpreter, options: &Options) -> Result<Vec<String>> {
    let times = std::env::temp_dir().join(format!("leaktrace-times-{}", std::process::id()));
    let path = times.to_str().context("the temporary directory isn't UTF-8")?;
    let running = program.start(python, &["--times", path])?;
    let traced_instead = options.bystander.then(|| program.start(python, &[])).transpose()?;
    let pid = traced_instead.as_ref().unwrap_or(&running).target.pid().to_string();
    let duration = format!("{}s", options.seconds);

    let mut untraced = vec![rest(options)?];
    let mut traced = Vec::new();
    for _ in 0..options.pairs {
        let begun = now()?;
        let arguments = ["--pid", &pid, "--duration", &duration, "--overhead", &options.budget];
        let outcome = leaktrace::run(&[&arguments[..], &["--format", "json"]].concat())?;
        if outcome.code != Some(0) {
            bail!("leaktrace failed: {outcome:?}");
        }
        traced.push((begun, now()?));
        untraced.push(rest(options)?);
    }
    // The last requests are still in the program's buffer; wait until it has written them out.
    let last = untraced.last().map_or(0, |period| period.1);
    let requests = written_until(&times, last, Duration::from_secs(60))?;
    drop(running);
    fs::remove_file(&times)?;
    summarise(&requests, &untraced, &traced)
}

/// An untraced period, some of it left out at its begin for what the last detach still does.
fn rest(options: &Options) -> Result<Period> {
    thread::sleep(Duration::from_millis(500));
    let begun = now()?;
    thread::sleep(Duration::from_secs(u64::from(options.seconds)));
    Ok((begun, now()?))
}

/// One figure of a traced period, divided by the mean of those of the untraced periods around it.
fn ratios(
    requests: &[Request],
    untraced: &[Period],
    traced: &[Period],
    figure: impl Fn(&[Request]) -> Option<f64>,
) -> Result<Vec<f64>> {
    let of =
        |period: &Period| figure(&within(requests, *period)).context("no requests in a period");
    let pair = |(period, around): (&Period, &[Period])| {
        Ok(of(period)? / (of(&around[0])? + of(&around[1])?) * 2.0)
    };
    traced.iter().zip(untraced.windows(2)).map(pair).collect()
}

fn summarise(requests: &[Request], untraced: &[Period], traced: &[Period]) -> Result<Vec<String>> {
    let lengths = |requests: &[Request]| -> Vec<f64> {
        requests.iter().map(|request| request.length as f64).collect()
    };
    let corrected =
        |requests: &[Request]| -> Vec<f64> { requests.iter().map(Request::corrected).collect() };
    let ratios =
        |figure: &dyn Fn(&[Request]) -> Option<f64>| ratios(requests, untraced, traced, figure);
    let plain: Vec<Request> =
        untraced.iter().flat_map(|period| within(requests, *period)).collect();
    let request = statistics::median(&mut lengths(&plain)).context("no requests")?;
    let mut medians = ratios(&|requests| statistics::median(&mut corrected(requests)))?;
    let (low, high) = statistics::median_interval(&mut medians).context("no pairs")?;
    let middle = |mut ratios: Vec<f64>| statistics::median(&mut ratios).context("no pairs");
    let mean = ratios(&|requests| {
        let all = corrected(requests);
        Some(all.iter().sum::<f64>() / all.len() as f64).filter(|mean| mean.is_finite())
    })?;
    let tail = ratios(&|requests| statistics::quantile(&mut corrected(requests), 0.99))?;
    let uncorrected = ratios(&|requests| statistics::median(&mut lengths(requests)))?;
    Ok(vec![
        traced.len().to_string(),
        format!("{:.0} µs", request / 1000.0),
        format!("{:.3}", middle(medians)?),
        format!("{low:.3} to {high:.3}"),
        format!("{:.3}", middle(uncorrected)?),
        format!("{:.3}", middle(mean)?),
        format!("{:.3}", middle(tail)?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_come_from_the_right_periods() {
        // Requests every 10 ns; 4 ns long, but 6 ns while traced (100..200 and 300..400); from 250 on the
        // machine runs at half its speed.
        let traced = [(100, 200), (300, 400)];
        let untraced = [(0, 100), (200, 300), (400, 500)];
        let is_traced = |at: i64| traced.iter().any(|(from, to)| (*from..*to).contains(&at));
        let request = |begun: i64| {
            let slow = if begun < 250 { 1 } else { 2 };
            let length = if is_traced(begun) { 6 } else { 4 };
            Request { begun, length: length * slow, reference: 5 * slow, compiled: 1 }
        };
        let requests: Vec<_> = (0..50).map(|n| request(n * 10)).collect();
        let row = summarise(&requests, &untraced, &traced).unwrap();
        assert_eq!(row[0], "2");
        assert_eq!(row[2..4], ["1.500", "1.500 to 1.500"]);
        assert_eq!(row[5..], ["1.500", "1.500"]);
    }
}
