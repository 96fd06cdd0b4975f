//! Leaks: the worst line of each, and beneath it the others that are parts of it.

use super::paths::Paths;
use super::{VALUES, label, number, stack};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::Site;

/// Parts that are named.
const PARTS: usize = 6;

/// The lines of one leak.
pub(super) struct Finding<'a> {
    /// The one that grows most.
    pub worst: &'a Site,
    /// The rest.
    pub parts: Vec<&'a Site>,
}

impl<'a> Finding<'a> {
    /// All of its lines.
    pub(super) fn sites(&self) -> impl Iterator<Item = &'a Site> {
        std::iter::once(self.worst).chain(self.parts.iter().copied())
    }
}

/// The leaks that lines, in order of rank, are parts of.
pub(super) fn of(leaks: &[Site]) -> Vec<Finding<'_>> {
    let mut findings: Vec<Finding<'_>> = Vec::new();
    for leak in leaks {
        match findings.iter_mut().find(|finding| finding.worst.finding == leak.finding) {
            Some(finding) => finding.parts.push(leak),
            None => findings.push(Finding { worst: leak, parts: Vec::new() }),
        }
    }
    findings
}

/// Writes a leak's other lines.
pub(super) fn parts(page: &mut Page, finding: &Finding<'_>, paths: Paths<'_>) {
    let mut start = label("with it");
    for part in finding.parts.iter().take(PARTS) {
        let kinds = part.types.first().map_or(String::new(), |kind| format!(", {}", kind.name));
        let grows = format!("{}{kinds}  ", number::rate(part.growth_bytes_per_s));
        let line = start.plain(&grows);
        let room = page.width().saturating_sub(line.width());
        let place = stack::accused(&part.stack)
            .map_or("a line that could not be named".to_owned(), |frame| {
                stack::place(frame, room, paths)
            });
        page.line(&line.plain(&place));
        start = Line::from(" ".repeat(VALUES).as_str());
    }
    if let Some(more) = finding.parts.len().checked_sub(PARTS).filter(|more| *more > 0) {
        let more =
            format!("and {} (all in --format json)", number::counted(more as u64, "more line"));
        page.line(&start.plain(&more));
    }
    if !finding.parts.is_empty() {
        let growth = finding.sites().map(|site| site.growth_bytes_per_s).sum();
        let growth = format!("{}, {}", number::rate(growth), number::hourly(growth));
        page.wrapped(label("together"), Paint::Plain, &growth);
    }
}
