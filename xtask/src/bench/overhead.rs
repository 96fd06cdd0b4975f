//! What leaktrace costs: the request times of a service while it is traced and while it isn't, in turns
//! within one run of it.

use super::awake::Awake;
use super::bursts;
use super::load::{Load, NEIGHBOUR, Other, PLACEBO, Spent};
use super::page::Page;
use super::plot::{self, Bar};
use super::requests::{Period, Request, now, within, written_until};
use super::{machine, statistics};
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
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
    /// Length of a period in seconds; the budget is kept over ten
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How requests follow each other (repeatable); the idle service has its own pace always
    #[arg(long = "pace", value_enum, default_value = "full")]
    paces: Vec<Pace>,
    /// Measure another process of the same program, which nobody traces, while the one is traced
    #[arg(long)]
    bystander: bool,
    /// The programs leak: their requests then take longer and longer, traced or not
    #[arg(long)]
    leaking: bool,
    /// Leaktrace's budget (repeatable)
    #[arg(long = "budget", value_name = "SHARE", default_value = "1%")]
    budgets: Vec<String>,
    /// What goes on in the traced periods instead of a trace (repeatable)
    #[arg(long = "instead", value_name = "WHAT", value_enum, conflicts_with_all = ["budgets", "bystander"])]
    others: Vec<Other>,
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pace {
    /// Back to back: the service is loaded, its speed is its throughput
    Full,
    /// As its program has it: it waits between requests
    Own,
}

impl Pace {
    /// What tells it to a program.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Full => &["--rate", "0"],
            Self::Own => &[],
        }
    }

    /// As the table names it.
    fn name(self) -> &'static str {
        match self {
            Self::Full => "back to back",
            Self::Own => "own",
        }
    }
}

/// The program that is there for its own pace.
const IDLE: &str = "idle";

const INTRO: &str = "\
# Overhead

Written by `cargo xtask bench overhead`. A service runs once; leaktrace is attached to it, for some
seconds, ended, and attached again. A ratio compares the requests of one traced period, from the start of
leaktrace's process to its end, with those of the untraced periods just before and after. The table shows
the median of the ratios of the median request time, an interval that holds it with 95 % probability, and
the medians of the ratios of the 99th percentile and, where each period has 2,000 requests, of the 99.9th. The speed is
the untraced mean request time divided by the traced one, again with its interval.

The programs keep nothing of their requests, unless the name says that they leak: those of one that leaks take longer
and longer and not evenly so, since the collector's passes over all that is kept get long and rare. The placebo of the
leaking small-object service, where nothing is started at all, has a speed as low as the traced one.

The speed of a virtual machine jumps by half from one second to the next. So a fixed piece of Python that
allocates nothing is timed right after each request, and a request counts in units of it; the column \"by the clock\"
shows the speed without that. Of a service that nobody traces, the means and the
99th percentiles scatter less by it than by the piece's median in the same second.

What leaktrace says that it has spent is a share of the service's processor time, or of a core's where it takes less, and
beside it the share of the service's own work, both as the median over the periods; what was measured is the slow-down of
the mean request, which holds its waits too. Under \"in bursts\" is the part of the time that leaktrace has booked for
bursts, and the part by which the requests that met one took longer than others do: what is left of the slow-down is
leaktrace's own work on the same machine, and the machine.

Back to back, a service is loaded all the time, and its speed is its throughput. At its own pace it waits between
requests: the budget, a share of a whole core, then falls on less work, and a request pays more of it.

A placebo is leaktrace not started at all: it shows what the measurement itself adds. A neighbour is a program that
computes on the other core and has nothing to do with the service: it shows what two busy cores take from each other on
this machine. Where the budget is \"heap\", `leaktrace heap` counts all objects there, one count after the other without a
pause; \"heap --watch 1s\" counts every second, which is as often as can be asked for. A bystander is a process of the same program beside the traced
one: its own requests are what counts.

A thread of the idle class keeps every core awake, since one that falls asleep between requests makes the first
microseconds of the next one slow, and leaktrace's own work would wake it.

![What is left of a service's speed](overhead.svg)
";

/// The picture's.
const TITLE: &str = "What is left of a service's speed (1 = untraced)";

const COLUMNS: [&str; 18] = [
    "program",
    "Python",
    "budget",
    "pace",
    "pairs",
    "request",
    "median ratio",
    "95 % interval",
    "p99 ratio",
    "p99.9 ratio",
    "speed",
    "95 % interval",
    "by the clock",
    "slow-down",
    "spent",
    "of its work",
    "in bursts: booked, measured",
    "machine",
];

/// A period has a 99.9th percentile from so many requests on.
const ENOUGH: usize = 2000;

/// Measures each program on each interpreter under each budget.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let _awake = Awake::start()?;
    let mut page = Page::open("overhead.md", INTRO, &COLUMNS, 4)?;
    page.print_head();
    let loads: Vec<Load<'_>> = if options.others.is_empty() {
        options.budgets.iter().map(|budget| Load::Trace(budget)).collect()
    } else {
        options.others.iter().map(|other| Load::Other(*other)).collect()
    };
    for name in super::workloads(&options.programs) {
        let program = Program::open(&name)?;
        for python in super::interpreters(&options.interpreters)? {
            for (load, pace) in cases(&name, &loads, &options.paces) {
                let row = summarise(&measure(&program, &python, load, pace, options)?)?;
                let bystander = if options.bystander { ", bystander" } else { "" };
                let leaking = if options.leaking { ", leaking" } else { "" };
                let name = format!("{name}{leaking}{bystander}");
                let identity = [&name, python.name, load.name(), pace.name()].map(str::to_owned);
                page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
            }
        }
    }
    plot::write("overhead.svg", TITLE, &bars(page.rows()))
}

/// Each load at each pace that a program can have.
fn cases<'a>(program: &str, loads: &[Load<'a>], paces: &[Pace]) -> Vec<(Load<'a>, Pace)> {
    let paces = if program == IDLE { &[Pace::Own] } else { paces };
    loads.iter().flat_map(|load| paces.iter().map(move |pace| (*load, *pace))).collect()
}

/// The rows as bars.
fn bars(rows: &[Vec<String>]) -> Vec<Bar> {
    let bar = |row: &Vec<String>| {
        let [program, python, budget, pace, .., speed, interval, _, _, _, _, _, _] = &row[..]
        else {
            return None;
        };
        let (group, name) = (format!("{program}, {python}"), format!("{budget}, {pace}"));
        let bar = Bar::read(group, name, speed, interval)?;
        Some(Bar { stands_out: ![PLACEBO, NEIGHBOUR].contains(&budget.as_str()), ..bar })
    };
    rows.iter().filter_map(bar).collect()
}

/// A service's requests, and when it was traced.
struct Measured {
    requests: Vec<Request>,
    /// One more than the traced ones, which lie between them.
    untraced: Vec<Period>,
    traced: Vec<Period>,
    /// What leaktrace says of each traced period that it cost.
    spent: Vec<Spent>,
}

fn measure(
    program: &Program,
    python: &Interpreter,
    load: Load<'_>,
    pace: Pace,
    options: &Options,
) -> Result<Measured> {
    let times = std::env::temp_dir().join(format!("leaktrace-times-{}", std::process::id()));
    let path = times.to_str().context("the temporary directory isn't UTF-8")?;
    let clean: &[&str] = if options.leaking { &[] } else { &["--clean"] };
    let work = [pace.arguments(), clean].concat();
    let running = program.start(python, &[&["--times", path], &work[..]].concat())?;
    let traced_instead = options.bystander.then(|| program.start(python, &work)).transpose()?;
    let pid = traced_instead.as_ref().unwrap_or(&running).target.pid();

    let mut untraced = vec![rest(options)?];
    let (mut traced, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..options.pairs {
        let begun = now()?;
        spent.extend(load.put_on(pid, options.seconds)?);
        traced.push((begun, now()?));
        untraced.push(rest(options)?);
    }
    // The last requests are still in the program's buffer; wait until it has written them out.
    let last = untraced.last().map_or(0, |period| period.1);
    let requests = written_until(&times, last, Duration::from_secs(60))?;
    drop(running);
    fs::remove_file(&times)?;
    Ok(Measured { requests, untraced, traced, spent })
}

/// An untraced period, some of it left out at its begin for what the last detach still does.
fn rest(options: &Options) -> Result<Period> {
    thread::sleep(Duration::from_millis(500));
    let begun = now()?;
    thread::sleep(Duration::from_secs(u64::from(options.seconds)));
    Ok((begun, now()?))
}

impl Measured {
    /// One figure of each traced period, divided by the mean of those of the untraced periods around it. `None` where a
    /// period has no such figure.
    fn ratios(&self, figure: impl Fn(&[Request]) -> Option<f64>) -> Option<Vec<f64>> {
        let of = |period: &Period| figure(&within(&self.requests, *period));
        let pair = |(period, around): (&Period, &[Period])| {
            Some(of(period)? / (of(&around[0])? + of(&around[1])?) * 2.0)
        };
        self.traced.iter().zip(self.untraced.windows(2)).map(pair).collect()
    }

    /// Of the traced time, what was booked for bursts and what they took, in the median. `None` without bursts.
    fn in_bursts(&self) -> Option<String> {
        let around = self.untraced.windows(2);
        let periods = self.spent.iter().zip(&self.traced).zip(around);
        let share = |((spent, period), around): ((&Spent, &Period), &[Period])| {
            let usual = around.iter().flat_map(|period| within(&self.requests, *period));
            let usual: Vec<Request> = usual.collect();
            bursts::shares(&spent.bursts, *period, &within(&self.requests, *period), &usual)
        };
        let (mut booked, mut longer): (Vec<f64>, Vec<f64>) = periods.filter_map(share).unzip();
        let median = |shares: &mut [f64]| statistics::median(shares).map(percent);
        Some(format!("{}, {}", median(&mut booked)?, median(&mut longer)?))
    }

    /// The requests of all untraced periods.
    fn plain(&self) -> Vec<Request> {
        self.untraced.iter().flat_map(|period| within(&self.requests, *period)).collect()
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn summarise(measured: &Measured) -> Result<Vec<String>> {
    let lengths = |requests: &[Request]| -> Vec<f64> {
        requests.iter().map(|request| request.length as f64).collect()
    };
    let corrected =
        |requests: &[Request]| -> Vec<f64> { requests.iter().map(Request::corrected).collect() };
    let ratios = |figure: &dyn Fn(&[Request]) -> Option<f64>| {
        measured.ratios(figure).context("no requests in a period")
    };
    let middle = |ratios: &mut [f64]| statistics::median(ratios).context("no pairs");
    let interval = |ratios: &mut [f64]| -> Result<String> {
        let (low, high) = statistics::median_interval(ratios).context("no pairs")?;
        Ok(format!("{low:.3} to {high:.3}"))
    };

    let mut plain = lengths(&measured.plain());
    let request = statistics::median(&mut plain).context("no requests")?;
    let mut medians = ratios(&|requests| statistics::median(&mut corrected(requests)))?;
    let mut tail = ratios(&|requests| statistics::quantile(&mut corrected(requests), 0.99))?;
    let far_tail = measured.ratios(|requests| {
        let mut all = corrected(requests);
        if all.len() < ENOUGH { None } else { statistics::quantile(&mut all, 0.999) }
    });
    let far_tail = far_tail.map(|mut ratios| middle(&mut ratios)).transpose()?;
    let mut means = ratios(&|requests| statistics::mean(&corrected(requests)))?;
    let slower = middle(&mut means)? - 1.0;
    let mut by_clock = ratios(&|requests| statistics::mean(&lengths(requests)))?;
    let mut speeds: Vec<f64> = means.iter().map(|ratio| ratio.recip()).collect();
    let spent = |share: fn(&Spent) -> f64| {
        let mut shares: Vec<f64> = measured.spent.iter().map(share).collect();
        statistics::median(&mut shares).map(percent).unwrap_or_default()
    };
    Ok(vec![
        measured.traced.len().to_string(),
        format!("{:.0} µs", request / 1000.0),
        format!("{:.3}", middle(&mut medians)?),
        interval(&mut medians)?,
        format!("{:.3}", middle(&mut tail)?),
        far_tail.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
        format!("{:.3}", middle(&mut speeds)?),
        interval(&mut speeds)?,
        format!("{:.3}", middle(&mut by_clock)?.recip()),
        percent(slower),
        spent(|spent| spent.share),
        spent(|spent| spent.of_own_work),
        measured.in_bursts().unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five periods with so many requests, one every 20 ns: 4 ns long, but 6 ns in the second and the fourth period,
    /// which are traced. From the middle on, the machine runs at half its speed.
    fn measured(in_each: i64) -> Measured {
        let length = in_each * 20;
        let period = |n: i64| (n * length, (n + 1) * length);
        let request = |begun: i64| {
            let slow = if begun < length * 5 / 2 { 1 } else { 2 };
            let length = if begun / length % 2 == 1 { 6 } else { 4 };
            Request { begun, length: length * slow, reference: 5 * slow, compiled: 1 }
        };
        let spent = |share| Spent { share, of_own_work: 2.0 * share, bursts: Vec::new() };
        Measured {
            requests: (0..in_each * 5).map(|n| request(n * 20)).collect(),
            untraced: [0, 2, 4].map(period).to_vec(),
            traced: [1, 3].map(period).to_vec(),
            spent: [0.01, 0.02].map(spent).to_vec(),
        }
    }

    #[test]
    fn ratios_come_from_the_right_periods() {
        let row = summarise(&measured(10)).unwrap();
        assert_eq!(row[0], "2");
        assert_eq!(row[2..4], ["1.500", "1.500 to 1.500"]);
        assert_eq!(row[4..6], ["1.500", ""]);
        assert_eq!(row[6..9], ["0.667", "0.667 to 0.667", "0.686"]);
    }

    #[test]
    fn only_many_requests_have_a_far_tail() {
        assert_eq!(summarise(&measured(1999)).unwrap()[5], "");
        assert_eq!(summarise(&measured(2000)).unwrap()[5], "1.500");
    }

    #[test]
    fn what_was_measured_stands_beside_what_was_reported() {
        let row = summarise(&measured(10)).unwrap();
        assert_eq!(row[9..], ["50.00 %", "1.50 %", "3.00 %", ""]);
    }

    #[test]
    fn what_bursts_took_stands_beside_what_was_booked() {
        let mut measured = measured(10);
        let ((first, end), spent) = (measured.traced[0], &mut measured.spent[0]);
        // Half of the first traced period, whose requests take 2 ns of 20 more.
        let open = (first, (first + end) / 2);
        spent.bursts = vec![bursts::Burst { open, booked: 9.0 }];
        assert_eq!(summarise(&measured).unwrap()[12], "4.50 %, 5.00 %");
    }

    #[test]
    fn the_idle_service_keeps_its_pace() {
        let both = [Pace::Full, Pace::Own];
        let load = Load::Trace("1%");
        assert_eq!(cases("small", &[load], &both), both.map(|pace| (load, pace)));
        assert_eq!(cases("idle", &[load], &[Pace::Full]), [(load, Pace::Own)]);
    }

    #[test]
    fn a_bar_shows_the_speed() {
        let identity = ["small", "py3.11", "1%", "own"].map(str::to_owned);
        let row = summarise(&measured(10)).unwrap();
        let rows = [identity.into_iter().chain(row).chain(["m".to_owned()]).collect::<Vec<_>>()];
        assert_eq!(rows[0].len(), COLUMNS.len());
        let bar = &bars(&rows)[0];
        assert_eq!((bar.group.as_str(), bar.value), ("small, py3.11", 0.667));
        assert_eq!(bar.name, "1%, own");
        assert_eq!(bar.interval, Some((0.667, 0.667)));
    }
}
