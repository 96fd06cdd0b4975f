//! One accused line, with all that speaks against it.

use super::paths::Paths;
use super::{VALUES, label, number, stack};
use crate::sink::page::{Line, Page, Paint, location, shorten};
use crate::snapshot::{Site, TypeShare};
use crate::units::Bytes;

/// Types that are named.
const TYPES: usize = 4;

/// Writes an accused site; `within`: which processes of a tree it is in.
pub(super) fn write(page: &mut Page, site: &Site, paths: Paths<'_>, within: Option<&str>) {
    page.line(&heading(page.width(), site));
    let frame = stack::accused(&site.stack);
    if let Some(source) = frame.and_then(|frame| frame.source.as_deref()) {
        let source = source.trim().replace('\t', " ");
        if !source.is_empty() {
            page.line(&Line::from("   ").paint(Paint::Dim, "│ ").plain(&source));
        }
    }

    if let Some(caller) = stack::caller(&site.stack) {
        let line = label("called at");
        let room = page.width().saturating_sub(line.width());
        page.line(&line.paint(Paint::Own, &stack::place(caller, room, paths)));
    }
    if let Some(within) = within {
        page.wrapped(label("in"), Paint::Plain, within);
    }
    let growth = site.growth_bytes_per_s;
    let interval = number::interval(site.growth_interval)
        .map_or_else(String::new, |interval| format!(" (95 % interval {interval})"));
    let growth = format!("{}, {}{interval}", number::rate(growth), number::hourly(growth));
    page.wrapped(label("growth"), Paint::Plain, &growth);

    let stays = format!(
        "about {}, {}, of what it allocated while observed; of its old blocks {} stay",
        number::counted(site.live_count, "block"),
        Bytes(site.live_bytes),
        number::percent(site.survival)
    );
    page.wrapped(label("alive"), Paint::Plain, &stays);
    if !site.types.is_empty() {
        page.wrapped(label("types"), Paint::Plain, &types(&site.types));
    }
    let sure = format!(
        "{}, {}; trend {}, {}",
        number::percent(site.confidence),
        number::sureness(site.confidence),
        site.trend,
        source(site)
    );
    page.wrapped(label("confidence"), Paint::Plain, &sure);
    if !site.retained_by.is_empty() {
        let maybe = if site.retained_by_maybe { " (maybe)" } else { "" };
        let chain = format!("{}{maybe}", site.retained_by.join(" → "));
        page.wrapped(label("kept by"), Paint::Plain, &chain);
    }
    if !site.reasons.is_empty() {
        page.wrapped(label("why"), Paint::Plain, &site.reasons.join("; "));
    }
    if let Some(cleared_if) = &site.cleared_if {
        page.wrapped(label("cleared if"), Paint::Plain, cleared_if);
    }
    if let Some(thread) = &site.thread {
        let thread = format!("{thread}, which runs no Python");
        page.wrapped(label("thread"), Paint::Plain, &thread);
    }
    stack::write(page, &site.stack, paths);
}

fn heading(width: usize, site: &Site) -> Line {
    let line = Line::default().paint(Paint::Bad, &format!("{}.", site.finding)).column(3);
    let Some(frame) = stack::accused(&site.stack) else {
        return line.paint(Paint::Bold, "a line that could not be named");
    };
    let room = width.saturating_sub(line.width() + " in ".len());
    let function = shorten(&stack::culprit(&site.stack), room / 2);
    let room = room.saturating_sub(function.chars().count());
    line.paint(Paint::Bold, &location(&frame.file, frame.line, room))
        .plain(" in ")
        .paint(Paint::Bold, &function)
}

/// Who handed it out.
fn source(site: &Site) -> String {
    let Some(memory) = &site.memory else { return format!("allocator {}", site.domain) };
    match site.device {
        _ if ["pinned", "registered"].contains(&memory.as_str()) => {
            format!("{memory} memory of the host, for a GPU")
        }
        Some(device) => format!("{memory} memory of GPU {device}"),
        None => format!("{memory} memory of a GPU"),
    }
}

fn types(types: &[TypeShare]) -> String {
    let named = types.iter().take(TYPES);
    let mut text = named
        .map(|share| format!("{} {}", share.name, number::percent(share.share)))
        .collect::<Vec<_>>()
        .join(", ");
    if types.len() > TYPES {
        text.push_str(&format!(" and {} more", types.len() - TYPES));
    }
    text
}

const _: () = assert!(VALUES > "   confidence".len());
