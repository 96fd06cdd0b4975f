//! What the observation cost the target, and how far it can be trusted.

use super::{label, number, title};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::{Losses, Overhead, Snapshot};

/// Below this share of events seen, the reader is warned.
const COVERED: f64 = 0.98;

/// The share of its own work is told where it is so many times that of a core's time.
const MORE: f64 = 1.1;

/// Writes the observation, its cost, coverage, losses and blind spots.
pub(super) fn write(page: &mut Page, snapshot: &Snapshot) {
    title(page, "The observation");
    let observed = &snapshot.observed;
    let text = format!(
        "{} in {}, {} recorded",
        number::seconds(observed.duration_s),
        number::counted(observed.bursts.into(), "burst"),
        number::counted(observed.allocations, "allocation")
    );
    page.wrapped(label("observed"), Paint::Plain, &text);

    let overhead = &snapshot.overhead;
    let over = overhead.spent > overhead.budget;
    let hits = match overhead.hits {
        0 => "no probe was hit".to_owned(),
        hits => format!("{} at {:.0} ns", number::counted(hits, "probe hit"), overhead.ns_per_hit),
    };
    let text = format!(
        "{}, {} {}; {hits}",
        spent(overhead),
        if over { "over the budget of" } else { "within the budget of" },
        number::percent(overhead.budget),
    );
    page.wrapped(label("cost"), if over { Paint::Doubt } else { Paint::Plain }, &text);

    let (paint, text) = match snapshot.coverage.pymalloc {
        Some(share) if share < COVERED => (Paint::Doubt, coverage(share)),
        Some(share) => (Paint::Plain, coverage(share)),
        None => (Paint::Plain, "not measured".to_owned()),
    };
    page.wrapped(label("coverage"), paint, &text);

    let lost = losses(&snapshot.losses);
    if lost.is_empty() {
        page.wrapped(label("lost"), Paint::Plain, "nothing");
    } else {
        page.wrapped(label("lost"), Paint::Doubt, &lost.join(", "));
    }
    let mut start = label("not seen");
    for unseen in &snapshot.unseen {
        page.wrapped(start, Paint::Plain, unseen);
        start = Line::default().column(super::VALUES);
    }
    page.line(&Line::from("   ").paint(Paint::Dim, &format!("leaktrace {}", snapshot.leaktrace)));
}

/// A target that keeps less than a core busy is given a share of a core's time, which is more of its own.
fn spent(overhead: &Overhead) -> String {
    let (of_a_core, of_own) = (overhead.spent, overhead.of_own_work);
    if of_own > of_a_core * MORE {
        let [of_a_core, of_own] = [of_a_core, of_own].map(number::percent);
        format!("{of_a_core} of a core's time ({of_own} of what the target took of it)")
    } else {
        format!("{} of the target's time", number::percent(of_a_core))
    }
}

fn coverage(share: f64) -> String {
    format!("{} of the events of Python's allocator were seen", number::percent(share))
}

fn losses(losses: &Losses) -> Vec<String> {
    // Taken apart in full, so that a new cause cannot be forgotten here.
    let Losses {
        ring_full,
        map_full,
        stacks_truncated,
        unreadable,
        unpredicted,
        unmatched_returns,
        bad_records,
        stacks_missing,
        sites_forgotten,
        unresolved_frames,
        breakpoints_refused,
    } = *losses;
    [
        (ring_full, "record", "records", "(ring buffer full)"),
        (map_full, "block or site", "blocks or sites", "(map full)"),
        (stacks_truncated, "stack", "stacks", "cut (too deep)"),
        (unreadable, "structure", "structures", "unreadable"),
        (unpredicted, "address", "addresses", "not predicted"),
        (unmatched_returns, "return", "returns", "without a call"),
        (bad_records, "record", "records", "malformed"),
        (stacks_missing, "stack", "stacks", "missing"),
        (sites_forgotten, "idle site", "idle sites", "forgotten"),
        (unresolved_frames, "frame", "frames", "without a name"),
        (breakpoints_refused, "breakpoint", "breakpoints", "refused"),
    ]
    .into_iter()
    .filter(|&(count, ..)| count > 0)
    .map(|(count, one, many, what)| {
        format!("{} {} {what}", number::count(count), if count == 1 { one } else { many })
    })
    .collect()
}
