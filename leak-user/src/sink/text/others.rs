//! Tables of what lines, or what else sites have in common, hold together.

use super::groups::{self, Label};
use super::paths::Paths;
use super::{number, title};
use crate::sink::View;
use crate::sink::page::{Line, Page, Paint, shorten};
use crate::snapshot::Site;
use crate::units::Bytes;

/// Growth in bytes a second that does not show as none.
const VISIBLE: f64 = 0.05;
/// From this width on there is room for all columns.
const WIDE: usize = 96;

/// What sites that have something in common hold together.
struct Row<'a> {
    label: Label<'a>,
    live_bytes: f64,
    live_count: f64,
    growth: f64,
    survivors: f64,
    trend: &'a str,
}

/// Writes a table of lines under a title, or nothing if none of them holds memory or grows: who reads it looks for
/// lines, not callers.
pub(super) fn write<'a>(
    page: &mut Page,
    name: &str,
    sites: impl IntoIterator<Item = &'a Site>,
    paths: Paths<'_>,
) {
    write_by(page, name, sites, paths, View::default());
}

/// Writes a table of what the view asks for.
pub(super) fn write_by<'a>(
    page: &mut Page,
    name: &str,
    sites: impl IntoIterator<Item = &'a Site>,
    paths: Paths<'_>,
    view: View,
) {
    let wide = page.width() >= WIDE;
    let rows = rows(sites, view);
    if rows.is_empty() {
        return;
    }
    title(page, name);
    let trend = if wide { format!("  {:<9}", "trend") } else { String::new() };
    let head = format!(
        "  {:>9} {:>9} {:>13}  {:>6}{trend}  {}",
        "live",
        "blocks",
        "growth",
        "stay",
        view.by.name()
    );
    page.line(&Line::default().paint(Paint::Dim, &head));
    for row in rows.iter().take(view.top) {
        let stay = number::percent(row.survivors / row.live_count.max(1.0));
        let trend = if wide { format!("  {:<9}", shorten(row.trend, 9)) } else { String::new() };
        let line = Line::from(
            format!(
                "  {:>9} {:>9} {:>13}  {stay:>6}{trend}  ",
                Bytes(row.live_bytes as u64).to_string(),
                number::count(row.live_count as u64),
                number::rate(row.growth),
            )
            .as_str(),
        );
        let room = page.width().saturating_sub(line.width());
        page.line(&line.plain(&row.label.shown(room, paths)));
    }
    if rows.len() > view.top {
        let rest = number::counted((rows.len() - view.top) as u64, view.by.more());
        let more = format!("  and {rest} (all sites in --format json)");
        page.line(&Line::default().paint(Paint::Dim, &more));
    }
}

fn rows<'a>(sites: impl IntoIterator<Item = &'a Site>, view: View) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for site in sites {
        for (label, share) in groups::labels(site, view) {
            let at = rows.iter().position(|row| row.label == label).unwrap_or_else(|| {
                rows.push(Row::empty(label, &site.trend));
                rows.len() - 1
            });
            rows[at].add(site, share);
        }
    }
    // What was all freed holds nothing, whatever it once allocated.
    rows.retain(|row| row.live_bytes >= 1.0 || row.growth >= VISIBLE);
    rows.sort_by(|a, b| b.live_bytes.total_cmp(&a.live_bytes));
    rows
}

impl<'a> Row<'a> {
    fn empty(label: Label<'a>, trend: &'a str) -> Self {
        let (live_bytes, live_count, growth, survivors) = (0.0, 0.0, 0.0, 0.0);
        Self { label, live_bytes, live_count, growth, survivors, trend }
    }

    /// Adds a share of what a site holds.
    fn add(&mut self, site: &Site, share: f64) {
        let live_count = site.live_count as f64 * share;
        self.live_bytes += site.live_bytes as f64 * share;
        self.live_count += live_count;
        self.growth += site.growth_bytes_per_s * share;
        self.survivors += site.survival * live_count;
    }
}
