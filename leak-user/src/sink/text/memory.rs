//! Where the process's memory is: parts that add up to its RSS.

use super::{number, title};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::heap::CHeap;
use crate::snapshot::{Memory, Split};
use crate::units::Bytes;

/// Writes the split under a title, or nothing where RSS is unknown.
pub(super) fn write(page: &mut Page, memory: &Memory, name: &str) {
    if memory.rss_bytes == 0 {
        return;
    }
    title(page, name);
    let parts = parts(&memory.split);
    for (name, bytes) in parts {
        row(page, memory, Paint::Plain, name, bytes, "");
    }
    for (name, bytes) in memory.c_heap.iter().flat_map(c_parts) {
        row(page, memory, Paint::Dim, name, bytes, "");
    }
    let sum = parts.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    // The parts are read one after the other while the process runs.
    match memory.rss_bytes.checked_sub(sum) {
        Some(0) => {}
        Some(missing) => row(page, memory, Paint::Doubt, "not accounted for", missing, ""),
        None => {
            row(page, memory, Paint::Doubt, "counted twice", sum - memory.rss_bytes, "-");
        }
    }
    row(page, memory, Paint::Bold, "RSS", memory.rss_bytes, "");
    if let Some(limit) = memory.limit_bytes {
        row(page, memory, Paint::Dim, "memory limit", limit, "");
    }
    if memory.pss_bytes > 0 && memory.pss_bytes != memory.rss_bytes {
        row(page, memory, Paint::Dim, "its share of it (PSS)", memory.pss_bytes, "");
    }
}

/// The parts by name.
pub(crate) fn parts(split: &Split) -> [(&'static str, u64); 5] {
    [
        ("live Python objects", split.python_live),
        ("free, kept by Python", split.held_free),
        ("holes between live objects", split.fragmentation),
        ("mapped files", split.file),
        ("C heap, stacks, the rest", split.unattributed),
    ]
}

/// The parts of the C library's heaps by name, those that there are.
pub(crate) fn c_parts(heap: &CHeap) -> impl Iterator<Item = (&'static str, u64)> {
    let parts = [
        ("  C heap: in use", heap.in_use_bytes),
        ("  C heap: holes between blocks", heap.free_bytes),
        ("  C heap: free at its end", heap.top_bytes),
        ("  C heap: can't be told", heap.unknown_bytes),
    ];
    parts.into_iter().filter(|(_, bytes)| *bytes > 0)
}

fn row(page: &mut Page, memory: &Memory, paint: Paint, name: &str, bytes: u64, sign: &str) {
    let amount = format!("{sign}{}", Bytes(bytes));
    let share = number::percent((bytes as f64 / memory.rss_bytes as f64 * 100.0).round() / 100.0);
    page.line(&Line::default().paint(paint, &format!("  {name:<30} {amount:>10} {share:>7}")));
}
