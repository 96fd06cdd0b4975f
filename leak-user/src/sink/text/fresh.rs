//! Where fresh memory was first touched: a lead where no line could be accused.

use super::paths::Paths;
use super::{number, stack, title};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::{Frame, FreshMemory, Snapshot, Verdict};

/// Lines that are shown.
const ROWS: usize = 5;

/// What the stacks of one line took together.
struct Row<'a> {
    frame: Option<&'a Frame>,
    bytes_per_s: f64,
}

/// Writes the section where it can help: growth that is not explained, or that is.
pub(super) fn write(page: &mut Page, snapshot: &Snapshot, paths: Paths<'_>) {
    let helps =
        snapshot.verdict == Verdict::Inconclusive || snapshot.memory.growth_interval.0 > 0.0;
    let rows = rows(&snapshot.fresh_memory);
    if rows.is_empty() || !helps {
        return;
    }
    title(page, "Where fresh memory was first touched");
    for row in rows.iter().take(ROWS) {
        let line = Line::from(format!("  {:>13}  ", number::rate(row.bytes_per_s)).as_str());
        let room = page.width().saturating_sub(line.width());
        let place = match row.frame {
            Some(frame) => stack::place(frame, room, paths),
            None => "outside Python, or its stack is not known".to_owned(),
        };
        page.line(&line.plain(&place));
    }
    let note = "this includes memory that was given back since; estimated from a sample of the \
                page faults";
    page.wrapped(Line::from("  "), Paint::Dim, note);
}

fn rows(fresh: &[FreshMemory]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for memory in fresh.iter().filter(|memory| memory.touched_bytes > 0) {
        let frame = stack::accused(&memory.stack);
        match rows.iter_mut().find(|row| stack::same_line(row.frame, frame)) {
            Some(row) => row.bytes_per_s += memory.bytes_per_s,
            None => rows.push(Row { frame, bytes_per_s: memory.bytes_per_s }),
        }
    }
    rows.sort_by(|a, b| b.bytes_per_s.total_cmp(&a.bytes_per_s));
    rows
}
