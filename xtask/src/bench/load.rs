//! What goes on in a traced period of a service: a trace, counts of its heap, or what leaktrace has no part in.

use super::bursts::{self, Burst};
use anyhow::{Context as _, Result, bail};
use leak_tests::leaktrace::{self, Outcome};
use std::thread;
use std::time::{Duration, Instant};

/// What stands for the budget where leaktrace isn't started.
pub const PLACEBO: &str = "placebo";

/// What stands for it where something else computes.
pub const NEIGHBOUR: &str = "neighbour";

/// What goes on in the traced periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load<'a> {
    /// Leaktrace traces, with this budget.
    Trace(&'a str),
    /// Something else.
    Other(Other),
}

/// What may go on instead of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Other {
    /// Nothing: what the measurement makes of no cost at all
    Placebo,
    /// A program computes on the other core, and has nothing to do with the service
    Neighbour,
    /// Leaktrace counts the heap all the time, one count after the other
    Heap,
    /// Leaktrace counts the heap every second, which is as often as can be asked for
    HeapWatch,
}

impl Load<'_> {
    /// What stands for it in the column of budgets.
    pub fn name(&self) -> &str {
        match self {
            Self::Trace(budget) => budget,
            Self::Other(Other::Placebo) => PLACEBO,
            Self::Other(Other::Neighbour) => NEIGHBOUR,
            Self::Other(Other::Heap) => "heap",
            Self::Other(Other::HeapWatch) => "heap --watch 1s",
        }
    }

    /// Puts it on a process for so long; what leaktrace says that a trace has cost.
    ///
    /// # Errors
    /// What leaktrace couldn't do.
    pub fn put_on(self, pid: u32, seconds: u32) -> Result<Option<Spent>> {
        let period = Duration::from_secs(u64::from(seconds));
        match self {
            Self::Trace(budget) => return trace(pid, budget, seconds).map(Some),
            Self::Other(Other::Placebo) => thread::sleep(period),
            Self::Other(Other::Neighbour) => compute_for(period),
            Self::Other(Other::Heap) => count_for(period, pid)?,
            Self::Other(Other::HeapWatch) => watch(pid, seconds)?,
        }
        Ok(None)
    }
}

/// What leaktrace says that it cost, over all of its time, its start and its end included.
#[derive(Debug, Clone)]
pub struct Spent {
    /// The share of the target's work, or of a core's time.
    pub share: f64,
    /// The share of the target's work.
    pub of_own_work: f64,
    /// Its bursts.
    pub bursts: Vec<Burst>,
}

/// Runs leaktrace, and returns what it says that it has cost the target.
fn trace(pid: u32, budget: &str, seconds: u32) -> Result<Spent> {
    let (pid, duration) = (pid.to_string(), format!("{seconds}s"));
    let arguments = ["--pid", &pid, "--duration", &duration, "--overhead", budget];
    let outcome = succeed(&[&arguments[..], &["-vv"]].concat())?;
    let report = outcome.report()?;
    let figure = |place: &str| report.pointer(place)?.as_f64();
    let figure = |place: &str| figure(place).with_context(|| format!("no {place} in the report"));
    let part = figure("/observed/duration_s")? / outcome.took.as_secs_f64();
    let share = figure("/overhead/spent")? * part;
    let of_own_work = figure("/overhead/of_own_work")? * part;
    Ok(Spent { share, of_own_work, bursts: bursts::told(&outcome.stderr) })
}

/// Counts the heap for so long, one count after the other.
fn count_for(period: Duration, pid: u32) -> Result<()> {
    let (begun, pid, mut counts) = (Instant::now(), pid.to_string(), 0);
    while begun.elapsed() < period {
        succeed(&["heap", "--pid", &pid])?;
        counts += 1;
    }
    eprintln!("{counts} counts in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Counts it every second, which is as often as can be asked for.
fn watch(pid: u32, seconds: u32) -> Result<()> {
    let (pid, duration) = (pid.to_string(), format!("{seconds}s"));
    succeed(&["heap", "--pid", &pid, "--watch", "1s", "--duration", &duration])?;
    Ok(())
}

/// Runs leaktrace to its end, for programs' eyes.
fn succeed(arguments: &[&str]) -> Result<Outcome> {
    let outcome = leaktrace::run(&[arguments, &["--format", "json"]].concat())?;
    if outcome.code != Some(0) {
        bail!("leaktrace failed: {outcome:?}");
    }
    Ok(outcome)
}

/// Keeps a core busy for so long, and nothing of its memory.
fn compute_for(period: Duration) {
    let (begun, mut number) = (Instant::now(), 1_u64);
    while begun.elapsed() < period {
        for _ in 0..1000 {
            number = std::hint::black_box(number)
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
        }
    }
}
