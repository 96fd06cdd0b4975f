//! Sites in a row each.

use super::{number, stack, title};
use crate::sink::page::{Line, Page, Paint, location, shorten, width};
use crate::snapshot::{Frame, Site};
use crate::units::Bytes;

/// Rows of a table.
const ROWS: usize = 10;
/// From this width on there is room for all columns.
const WIDE: usize = 96;

/// What the sites of one line hold together: who reads the table looks for lines, not callers.
struct Row<'a> {
    frame: Option<&'a Frame>,
    live_bytes: u64,
    live_count: u64,
    growth: f64,
    survivors: f64,
    trend: &'a str,
}

/// Writes a table of sites under a title, or nothing if there are none.
pub(super) fn write(page: &mut Page, name: &str, sites: &[Site]) {
    if sites.is_empty() {
        return;
    }
    let wide = page.width() >= WIDE;
    let rows = rows(sites);
    title(page, name);
    let trend = if wide { format!("  {:<9}", "trend") } else { String::new() };
    let head =
        format!("  {:>9} {:>9} {:>13}  {:>6}{trend}  line", "live", "blocks", "growth", "stay");
    page.line(&Line::default().paint(Paint::Dim, &head));
    for row in rows.iter().take(ROWS) {
        let stay = number::percent(row.survivors / (row.live_count.max(1) as f64));
        let trend = if wide { format!("  {:<9}", shorten(row.trend, 9)) } else { String::new() };
        let line = Line::from(
            format!(
                "  {:>9} {:>9} {:>13}  {stay:>6}{trend}  ",
                Bytes(row.live_bytes).to_string(),
                number::count(row.live_count),
                number::rate(row.growth),
            )
            .as_str(),
        );
        let room = page.width().saturating_sub(line.width());
        page.line(&line.plain(&place(row.frame, room)));
    }
    if rows.len() > ROWS {
        let more = format!(
            "  and {} (all in --format json)",
            number::counted((rows.len() - ROWS) as u64, "more line")
        );
        page.line(&Line::default().paint(Paint::Dim, &more));
    }
}

/// `file:line in function`, the function only where there is room for both.
fn place(frame: Option<&Frame>, room: usize) -> String {
    let Some(frame) = frame else { return "unknown".to_owned() };
    let function = format!(" in {}", shorten(&frame.function, 28));
    let base = frame.file.rsplit('/').next().unwrap_or(&frame.file);
    let left = room.saturating_sub(width(&function));
    if width(base) + "…/:99999".chars().count() <= left {
        return format!("{}{function}", location(&frame.file, frame.line, left));
    }
    location(&frame.file, frame.line, room)
}

fn rows(sites: &[Site]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for site in sites {
        let frame = stack::accused(&site.stack);
        let survivors = site.survival * site.live_count as f64;
        let same = |row: &&mut Row<'_>| match (row.frame, frame) {
            (Some(a), Some(b)) => (&a.file, a.line, &a.function) == (&b.file, b.line, &b.function),
            (None, None) => true,
            _ => false,
        };
        match rows.iter_mut().find(same) {
            Some(row) => {
                row.live_bytes = row.live_bytes.saturating_add(site.live_bytes);
                row.live_count = row.live_count.saturating_add(site.live_count);
                row.growth += site.growth_bytes_per_s;
                row.survivors += survivors;
            }
            None => rows.push(Row {
                frame,
                live_bytes: site.live_bytes,
                live_count: site.live_count,
                growth: site.growth_bytes_per_s,
                survivors,
                trend: &site.trend,
            }),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.live_bytes));
    rows
}
