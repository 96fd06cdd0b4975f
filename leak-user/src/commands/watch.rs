//! `leaktrace heap --watch`: looks at the heap again and again; with `--rates`, the process is observed beside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::heap::rendered;
use super::stop;
use crate::cli::output::Output;
use crate::cli::{CliError, HeapOptions};
use crate::heap::growth::History;
use crate::heap::rates::Turnover;
use crate::heap::report::Observed;
use crate::session::{Native, Options, Session};
use crate::target::elsewhere::Elsewhere;
use crate::target::{self, privileges};
use crate::units::Nanos;

/// Between two looks it is seen so often whether the end has come.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A look takes a core: at most half of the time goes to looks.
const REST: u32 = 1;

/// Looks in a row that may fail, as where the process changes just what is read first.
const MAX_FAILED: u32 = 3;

/// What one burst may spend, and so one request may wait for it.
const BURST_MOST: Nanos = Nanos(10_000_000);

/// Looks until the process ends, the time is over, nobody reads any more, or it is ended by hand.
pub(super) fn run(
    observed: &Observed,
    mut elsewhere: Elsewhere,
    interval: Duration,
    options: &HeapOptions,
    output: Output,
) -> Result<(), CliError> {
    let Some(share) = options.rates else {
        let stop = stop::on_signal();
        let none = Mutex::new(None);
        return Looks { observed, interval, options, stop: &stop, turnover: &none }
            .run(elsewhere, output);
    };
    privileges::check()?;
    // The session keeps off the target's processors by itself.
    elsewhere.back();
    let mut session = Session::open(target::discover(options.pid)?, beside(share), None)?;
    // Not before: the session may have to change what all of the process's threads see.
    let stop = stop::on_signal();
    let turnover = Mutex::new(None);
    let looks = Looks { observed, interval, options, stop: &stop, turnover: &turnover };
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let result = looks.run(elsewhere, output);
            stop.store(true, Ordering::Relaxed);
            result
        });
        let observation = session.observe(&stop, |session, _| {
            *turnover.lock().unwrap_or_else(PoisonError::into_inner) = session.turnover();
        });
        stop.store(true, Ordering::Relaxed);
        let looked = looking.join();
        observation?;
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// An observation for as long as it is looked.
fn beside(share: f64) -> Options {
    Options {
        duration: Nanos(u64::MAX),
        overhead: share,
        burst_most: BURST_MOST,
        exact: false,
        native: Native::None,
        one_by_one: false,
        no_return_probes: false,
        children: false,
        patience: Nanos(0),
        turnover: true,
    }
}

struct Looks<'a> {
    observed: &'a Observed,
    interval: Duration,
    options: &'a HeapOptions,
    stop: &'a AtomicBool,
    /// What the observation beside has found out so far, if there is one.
    turnover: &'a Mutex<Option<Turnover>>,
}

impl Looks<'_> {
    fn run(&self, mut elsewhere: Elsewhere, mut output: Output) -> Result<(), CliError> {
        let begun = Instant::now();
        let end = self.options.duration.map(|duration| begun + duration);
        let (mut history, mut failed) = (History::default(), 0);
        loop {
            let at = begun.elapsed();
            elsewhere.go(None);
            match self.observed.look() {
                Ok(mut heap) => {
                    failed = 0;
                    let growth = history.add(at.as_secs_f64(), &heap);
                    let turnover = self.turnover.lock().unwrap_or_else(PoisonError::into_inner);
                    heap.allocations = turnover.as_ref().map(|found| found.allocations(&growth));
                    drop(turnover);
                    heap.growth = Some(growth);
                    if !output.append(&rendered(&heap, self.options)?)? {
                        break;
                    }
                }
                Err(error) if history.looks() == 0 => return Err(error.into()),
                Err(_) if self.observed.has_ended() => break,
                Err(error) if failed < MAX_FAILED => {
                    tracing::warn!("a look failed: {error}");
                    failed += 1;
                }
                Err(error) => {
                    // What was seen before is kept.
                    output.finish()?;
                    return Err(error.into());
                }
            }
            let took = begun.elapsed().saturating_sub(at);
            let next = begun + at + self.interval.max(took * (1 + REST));
            let due = end.is_none_or(|end| next <= end);
            if !due || !self.wait_until(next) {
                break;
            }
        }
        Ok(output.finish()?)
    }

    /// Is there a next look, then?
    fn wait_until(&self, next: Instant) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) || self.observed.has_ended() {
                return false;
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(CHECK_EVERY));
        }
    }
}
