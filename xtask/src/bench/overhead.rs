//! What leaktrace costs: the request times of a service while it is traced and while it isn't, in turns
//! within one run of it.

use super::awake::Awake;
use super::page::Page;
use super::{machine, statistics};
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;
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
the median of the ratios of the 99th percentile. Each service runs at its own pace; a thread of the idle
class keeps every core awake, since one that falls asleep between requests makes the first microseconds of
the next one slow, and leaktrace's own work would wake it.
";

const COLUMNS: [&str; 9] = [
    "program",
    "Python",
    "budget",
    "pairs",
    "request",
    "median ratio",
    "95 % interval",
    "p99 ratio",
    "machine",
];

/// From and to, in nanoseconds of CLOCK_MONOTONIC.
type Period = (i64, i64);

/// Measures each program on each interpreter.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let _awake = Awake::start()?;
    let mut page = Page::open("overhead.md", INTRO, &COLUMNS, 3)?;
    page.print_head();
    for name in super::programs(&options.programs) {
        for python in super::interpreters(&options.interpreters)? {
            let row = measure(&Program::open(&name)?, &python, options)?;
            let identity = [name.clone(), python.name.to_owned(), options.budget.clone()];
            page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
        }
    }
    Ok(())
}

fn measure(program: &Program, python: &Interpreter, options: &Options) -> Result<Vec<String>> {
    let times = std::env::temp_dir().join(format!("leaktrace-times-{}", std::process::id()));
    let path = times.to_str().context("the temporary directory isn't UTF-8")?;
    let running = program.start(python, &["--times", path])?;
    let pid = running.target.pid().to_string();
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

fn now() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// Begin and length of each request, once those up to `until` are in the file.
fn written_until(path: &Path, until: i64, limit: Duration) -> Result<Vec<(i64, i64)>> {
    let give_up = now()? + i64::try_from(limit.as_nanos())?;
    loop {
        let requests = parse(&fs::read(path)?);
        if requests.last().is_some_and(|(begun, _)| *begun >= until) {
            return Ok(requests);
        }
        if now()? > give_up {
            bail!("the program stopped writing its request times");
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn parse(bytes: &[u8]) -> Vec<(i64, i64)> {
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_ne_bytes);
    bytes.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..]))).collect()
}

fn summarise(
    requests: &[(i64, i64)],
    untraced: &[Period],
    traced: &[Period],
) -> Result<Vec<String>> {
    let (mut medians, mut tails, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for (period, around) in traced.iter().zip(untraced.windows(2)) {
        let mut during = lengths(requests, *period);
        let mut outside: Vec<Vec<f64>> = around.iter().map(|p| lengths(requests, *p)).collect();
        let mut ratio = |q| {
            let during = statistics::quantile(&mut during, q)?;
            let outside: Option<Vec<f64>> =
                outside.iter_mut().map(|side| statistics::quantile(side, q)).collect();
            let outside = outside?.iter().sum::<f64>() / 2.0;
            Some((during / outside, outside))
        };
        let (median, length) = ratio(0.5).context("no requests in a period")?;
        let (tail, _) = ratio(0.99).context("no requests in a period")?;
        medians.push(median);
        tails.push(tail);
        plain.push(length);
    }
    let request = statistics::median(&mut plain).context("no pairs")?;
    let (low, high) = statistics::median_interval(&mut medians).context("no pairs")?;
    let median = statistics::median(&mut medians).context("no pairs")?;
    let tail = statistics::median(&mut tails).context("no pairs")?;
    Ok(vec![
        traced.len().to_string(),
        format!("{:.0} µs", request / 1000.0),
        format!("{median:.3}"),
        format!("{low:.3} to {high:.3}"),
        format!("{tail:.3}"),
    ])
}

/// The lengths of the requests that began and ended within a period.
fn lengths(requests: &[(i64, i64)], (from, to): Period) -> Vec<f64> {
    let within = |&&(begun, length): &&(i64, i64)| begun >= from && begun + length <= to;
    requests.iter().filter(within).map(|(_, length)| *length as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_come_from_the_right_periods() {
        // Requests every 10 ns; 4 ns long, but 6 ns while traced (100..200 and 300..400).
        let traced = [(100, 200), (300, 400)];
        let untraced = [(0, 100), (200, 300), (400, 500)];
        let is_traced = |at: i64| traced.iter().any(|(from, to)| (*from..*to).contains(&at));
        let requests: Vec<_> =
            (0..50).map(|n| n * 10).map(|at| (at, if is_traced(at) { 6 } else { 4 })).collect();
        let row = summarise(&requests, &untraced, &traced).unwrap();
        assert_eq!(row[0], "2");
        assert_eq!(row[2..], ["1.500", "1.500 to 1.500", "1.500"]);
    }

    #[test]
    fn times_are_read_as_the_programs_write_them() {
        let bytes: Vec<u8> = [5_i64, 7, 9, 11].iter().flat_map(|n| n.to_ne_bytes()).collect();
        assert_eq!(parse(&bytes), [(5, 7), (9, 11)]);
        assert_eq!(parse(&bytes[..24]), [(5, 7)]);
    }
}
