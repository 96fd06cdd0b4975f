//! What watching a training loop costs it.

use super::{Options, programs};
use crate::bench::{machine, page::Page, statistics};
use anyhow::{Context as _, Result};
use leak_tests::leaktrace;
use leak_tests::target::Target;
use std::thread;
use std::time::Duration;

/// The program.
pub const NAME: &str = "real_training";

/// Length of a period in seconds; the budget allows for no more in the first ten.
const SECONDS: u32 = 10;

const INTRO: &str = "\
# Speed of a training loop on a real GPU

Written by `cargo xtask gpu-check`. Steps a second of `tests/programs/real_training.py` while leaktrace watches it, over
those of the periods before and after without it: the median of the pairs with its 95 % interval.
";

const COLUMNS: [&str; 7] =
    ["program", "pairs", "steps a second", "speed", "tensors watched", "libraries", "machine"];

/// Measures it.
///
/// # Errors
/// What couldn't be started, traced or written.
pub fn measure(options: &Options, versions: &str) -> Result<()> {
    let mut page = Page::open("gpu-speed.md", INTRO, &COLUMNS, 1)?;
    page.print_head();
    let mut target = programs::start(NAME, &[], options)?;
    let mut untraced = vec![speed(&mut target, |_| rest())?];
    let mut ratios = Vec::new();
    let mut watched = Vec::new();
    for _ in 0..options.pairs {
        let traced = speed(&mut target, |pid| {
            let report = leaktrace::observe(pid, SECONDS)?.report()?;
            watched.extend(report["gpu"]["tensors_watched"].as_f64());
            Ok(())
        })?;
        let before = *untraced.last().context("a period")?;
        let after = speed(&mut target, |_| rest())?;
        untraced.push(after);
        ratios.push(traced / f64::midpoint(before, after));
    }
    let interval = statistics::median_interval(&mut ratios);
    let median = statistics::median(&mut ratios).context("no pair")?;
    let (low, high) = interval.unwrap_or((median, median));
    page.put(vec![
        NAME.to_owned(),
        options.pairs.to_string(),
        format!("{:.0}", statistics::median(&mut untraced).unwrap_or(0.0)),
        format!("{median:.4} ({low:.4}–{high:.4})"),
        statistics::median(&mut watched)
            .map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        versions.to_owned(),
        machine::describe(),
    ])
}

fn rest() -> Result<()> {
    thread::sleep(Duration::from_secs(SECONDS.into()));
    Ok(())
}

/// Steps a second while something is done.
fn speed(target: &mut Target, meanwhile: impl FnOnce(u32) -> Result<()>) -> Result<f64> {
    let before = programs::figures(target, "count\n")?;
    meanwhile(target.pid())?;
    let after = programs::figures(target, "count\n")?;
    let by = |name: &str| {
        let [before, after] = [&before, &after].map(|figures| figures[name].as_f64());
        Some(after? - before?)
    };
    let steps = by("requests").zip(by("time")).map(|(steps, seconds)| steps / seconds);
    steps.context("the program's answer has no count")
}
