//! Whom a longer observation may accuse.

use super::paths::Paths;
use super::{number, stack, title};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::{Site, Snapshot, Verdict};

/// Lines that are named.
const MOST: usize = 3;

/// Where nobody is accused: names the lines of which no more than evidence is wanting, those that grow most first, and
/// what of it.
pub(super) fn write(page: &mut Page, snapshot: &Snapshot, paths: Paths<'_>) {
    if snapshot.verdict != Verdict::Inconclusive {
        return;
    }
    let suspected = |site: &&Site| site.lacks.is_some() && stack::accused(&site.stack).is_some();
    let mut suspects: Vec<&Site> = snapshot.sites.iter().filter(suspected).collect();
    suspects.sort_by(|a, b| b.growth_bytes_per_s.total_cmp(&a.growth_bytes_per_s));
    let mut named: Vec<&Site> = Vec::new();
    for site in suspects {
        let line = stack::accused(&site.stack);
        if !named.iter().any(|other| stack::same_line(stack::accused(&other.stack), line)) {
            named.push(site);
        }
    }
    if named.is_empty() {
        return;
    }
    title(page, "Suspected, but too little of it was seen");
    for site in named.into_iter().take(MOST) {
        let growth = format!("  {:>13}  ", number::rate(site.growth_bytes_per_s));
        let room = page.width().saturating_sub(growth.len());
        if let Some(frame) = stack::accused(&site.stack) {
            page.line(&Line::from(&*growth).plain(&stack::place(frame, room, paths)));
        }
        let lacks = site.lacks.as_deref().unwrap_or_default();
        page.wrapped(Line::default().column(growth.len()), Paint::Dim, lacks);
    }
}
