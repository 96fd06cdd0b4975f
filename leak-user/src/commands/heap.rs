//! `leaktrace heap --pid PID`: what lies in the heap, and with `--watch`, what of it grows.

use super::watch;
use crate::cli::output::Output;
use crate::cli::{CliError, ExitStatus, HeapFormat, HeapOptions};
use crate::heap::report::Observed;
use crate::probe::priority::Behind;
use crate::sink::heap::text;
use crate::sink::{chart, json, why};
use crate::snapshot::heap::Heap;
use crate::target::elsewhere::Elsewhere;

/// Prints what lies in the heap.
///
/// # Errors
/// No such process, not one whose heap can be read, or no place for the report.
pub fn run(options: &HeapOptions) -> Result<ExitStatus, CliError> {
    let output = Output::open(options.output.as_deref())?;
    // A target that stands still meanwhile is the only one to wait for it.
    let _behind = (!options.freeze).then(Behind::the_others);
    let mut elsewhere = Elsewhere::than(options.pid);
    elsewhere.go(None);
    let observed = Observed::open(options.pid)?;
    match options.watch {
        Some(interval) => watch::run(&observed, elsewhere, interval, options, output)?,
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

/// In the form that was asked for.
pub(super) fn rendered(heap: &Heap, options: &HeapOptions) -> Result<Vec<u8>, CliError> {
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
