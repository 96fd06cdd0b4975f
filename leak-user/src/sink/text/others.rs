//! Sites in a row each.

use super::paths::Paths;
use super::{number, stack, title};
use crate::sink::page::{Line, Page, Paint, shorten};
use crate::snapshot::{Frame, Site};
use crate::units::Bytes;

/// Rows of a table.
const ROWS: usize = 10;
/// Growth in bytes a second that does not show as none.
const VISIBLE: f64 = 0.05;
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

/// Writes a table of sites under a title, or nothing if none of them holds memory or grows.
pub(super) fn write<'a>(
    page: &mut Page,
    name: &str,
    sites: impl IntoIterator<Item = &'a Site>,
    paths: Paths<'_>,
) {
    let wide = page.width() >= WIDE;
    let rows = rows(sites);
    if rows.is_empty() {
        return;
    }
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
        let place =
            row.frame.map_or("unknown".to_owned(), |frame| stack::place(frame, room, paths));
        page.line(&line.plain(&place));
    }
    if rows.len() > ROWS {
        let more = format!(
            "  and {} (all in --format json)",
            number::counted((rows.len() - ROWS) as u64, "more line")
        );
        page.line(&Line::default().paint(Paint::Dim, &more));
    }
}

fn rows<'a>(sites: impl IntoIterator<Item = &'a Site>) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for site in sites {
        let frame = stack::accused(&site.stack);
        let survivors = site.survival * site.live_count as f64;
        match rows.iter_mut().find(|row| stack::same_line(row.frame, frame)) {
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
    // What was all freed holds nothing, whatever it once allocated.
    rows.retain(|row| row.live_bytes > 0 || row.growth >= VISIBLE);
    rows.sort_by_key(|row| std::cmp::Reverse(row.live_bytes));
    rows
}
