//! `leaktrace heap --pid PID`: what lies in the heap, and with `--watch`, what of it grows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::stop;
use crate::cli::output::Output;
use crate::cli::{CliError, ExitStatus, HeapFormat, HeapOptions};
use crate::heap::growth::History;
use crate::heap::report::Observed;
use crate::sink::heap::text;
use crate::sink::{chart, json, why};
use crate::snapshot::heap::Heap;
use crate::target::elsewhere::Elsewhere;

/// Between two looks it is seen so often whether the end has come.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A look takes a core: at most half of the time goes to looks.
const REST: u32 = 1;

/// Looks in a row that may fail, as where the process changes just what is read first.
const MAX_FAILED: u32 = 3;

/// Prints what lies in the heap.
///
/// # Errors
/// No such process, not one whose heap can be read, or no place for the report.
pub fn run(options: &HeapOptions) -> Result<ExitStatus, CliError> {
    let output = Output::open(options.output.as_deref())?;
    let mut elsewhere = Elsewhere::than(options.pid);
    elsewhere.go(None);
    let observed = Observed::open(options.pid)?;
    match options.watch {
        Some(interval) => watch(&observed, &mut elsewhere, interval, options, output)?,
        None => {
            let heap = match &options.why {
                Some((wanted, samples)) => observed.explain(wanted, *samples, options.freeze)?,
                None if options.freeze => observed.look_at_frozen()?,
                None => observed.look()?,
            };
            output.write(&rendered(&heap, options)?)?;
        }
    }
    Ok(ExitStatus::Done)
}

fn rendered(heap: &Heap, options: &HeapOptions) -> Result<Vec<u8>, CliError> {
    Ok(match (options.format, &heap.why) {
        (HeapFormat::Json, _) => json::to_line(heap)?,
        (HeapFormat::Text, Some(found)) => why::text(heap, found).into_bytes(),
        (HeapFormat::Dot, Some(found)) => chart::dot(found).into_bytes(),
        (HeapFormat::Svg, Some(found)) => chart::svg(found).into_bytes(),
        (HeapFormat::Text | HeapFormat::Dot | HeapFormat::Svg, None) => {
            text(heap, options.top).into_bytes()
        }
    })
}

/// Looks until the process ends, the time is over, nobody reads any more, or it is ended by hand.
fn watch(
    observed: &Observed,
    elsewhere: &mut Elsewhere,
    interval: Duration,
    options: &HeapOptions,
    mut output: Output,
) -> Result<(), CliError> {
    let stop = stop::on_signal();
    let begun = Instant::now();
    let end = options.duration.map(|duration| begun + duration);
    let (mut history, mut failed) = (History::default(), 0);
    loop {
        let at = begun.elapsed();
        elsewhere.go(None);
        match observed.look() {
            Ok(mut heap) => {
                failed = 0;
                heap.growth = Some(history.add(at.as_secs_f64(), &heap));
                if !output.append(&rendered(&heap, options)?)? {
                    break;
                }
            }
            Err(error) if history.looks() == 0 => return Err(error.into()),
            Err(_) if observed.has_ended() => break,
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
        let next = begun + at + interval.max(took * (1 + REST));
        let due = end.is_none_or(|end| next <= end);
        if !due || !wait_until(next, &stop, observed) {
            break;
        }
    }
    Ok(output.finish()?)
}

/// Is there a next look, then?
fn wait_until(next: Instant, stop: &AtomicBool, observed: &Observed) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) || observed.has_ended() {
            return false;
        }
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(CHECK_EVERY));
    }
}
