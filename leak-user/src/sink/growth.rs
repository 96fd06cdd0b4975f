//! How a heap has grown, and what is allocated in it, for people.

use std::fmt::Write as _;

use super::escape::escape;
use super::heap::{losses, sum};
use super::text::number::{count, counted, percent, rate, seconds};
use crate::snapshot::heap::{Allocations, Growth, Heap, TypeCount};
use crate::units::Bytes;

/// A look after the first: what has grown.
pub(super) fn write(
    text: &mut String,
    heap: &Heap,
    growth: &Growth,
    top: usize,
) -> std::fmt::Result {
    let (objects, bytes) = (sum(&heap.types, |one| one.count), sum(&heap.types, TypeCount::size));
    writeln!(
        text,
        "\nAfter {}: {}, {}",
        seconds(growth.since_first_s),
        counted(objects, "object"),
        Bytes(bytes)
    )?;
    if growth.types.is_empty() {
        writeln!(text, "no type has more objects than at first, or owns more")?;
    } else {
        write_grown(text, growth, top)?;
    }
    if let Some(allocations) = &heap.allocations {
        write_allocations(text, allocations, top)?;
    }
    losses(text, &heap.losses)
}

fn number(value: i64) -> String {
    let sign = if value < 0 { '-' } else { '+' };
    format!("{sign}{}", count(value.unsigned_abs()))
}

/// The types that have grown.
fn write_grown(text: &mut String, growth: &Growth, top: usize) -> std::fmt::Result {
    let last = format!("in {}", seconds(growth.since_last_s));
    writeln!(
        text,
        "{:>13} {:>12} {last:>12} {:>13}  {:<9}  type",
        "objects", "since first", "growth", "trend"
    )?;
    let (listed, others) = growth.types.split_at(growth.types.len().min(top));
    for one in listed {
        writeln!(
            text,
            "{:>13} {:>12} {:>12} {:>13}  {:<9}  {}",
            count(one.count),
            number(one.since_first),
            number(one.since_last),
            rate(one.bytes_per_s),
            one.trend.as_deref().unwrap_or("?"),
            escape(&one.name)
        )?;
    }
    if !others.is_empty() {
        let types = counted(others.len() as u64, "further type");
        writeln!(text, "{types} that grew (--top lists more)")?;
    }
    Ok(())
}

/// What is allocated a second.
fn write_allocations(text: &mut String, found: &Allocations, top: usize) -> std::fmt::Result {
    let (Some(per_s), None) = (found.per_s, &found.unknown) else {
        let reason = found.unknown.as_deref().unwrap_or("nothing was seen");
        return writeln!(text, "Allocations a second: not known: {}", escape(reason));
    };
    let number = |per_s: f64| count(per_s.round() as u64);
    let row = |text: &mut String, per_second: f64, name: &str| {
        let share = percent((100.0 * per_second / per_s).round() / 100.0);
        writeln!(text, "{:>13} {share:>12}  {name}", number(per_second))
    };
    writeln!(
        text,
        "Allocated: {} ± {} blocks a second of up to 512 bytes, a mean since the first look (by {} at their end)",
        number(per_s),
        number(found.error_per_s.unwrap_or(0.0)),
        count(found.samples)
    )?;
    writeln!(text, "{:>13} {:>12}  type", "a second", "share")?;
    let (listed, others) = found.types.split_at(found.types.len().min(top));
    for one in listed {
        row(text, one.per_s, &escape(&one.name))?;
    }
    if !others.is_empty() {
        let types = counted(others.len() as u64, "further type");
        row(
            text,
            others.iter().map(|one| one.per_s).sum(),
            &format!("{types} (--top lists more)"),
        )?;
    }
    let beside = "no objects: bodies of lists, tables of dicts, buffers";
    found.others_per_s.map_or(Ok(()), |per_s| row(text, per_s, beside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::heap::tests::heap;
    use crate::sink::heap::text;
    use crate::snapshot::heap::{TypeGrowth, TypeRate};

    #[test]
    fn what_has_grown_is_listed() {
        let of = |name: &str, since_last, trend: Option<&str>| TypeGrowth {
            name: name.to_owned(),
            count: 1_000_000,
            since_last,
            since_first: 2500,
            bytes_since_first: 120_000,
            bytes_per_s: 12_000.0,
            trend: trend.map(str::to_owned),
        };
        let types =
            vec![of("app.Note", 1200, Some("steep")), of("e\x1bvil", -3, None), of("c", 0, None)];
        let growth = Growth {
            look: 3,
            since_first_s: 10.02,
            since_last_s: 5.01,
            blocks_since_first: 7,
            types,
        };
        let later = Heap { growth: Some(growth.clone()), ..heap() };
        let expected = "
After 10.0 s: 1,000,003 objects, 45.8 MiB
      objects  since first     in 5.0 s        growth  trend      type
    1,000,000       +2,500       +1,200   +11.7 KiB/s  steep      app.Note
    1,000,000       +2,500           -3   +11.7 KiB/s  ?          e\\x1bvil
1 further type that grew (--top lists more)
Lost: 2 pools that changed each time they were read
";
        assert_eq!(text(&later, 2), expected);
        let first = Heap { growth: Some(Growth { look: 1, ..growth.clone() }), ..heap() };
        assert_eq!(text(&first, 2), text(&heap(), 2));
        let calm = Heap { growth: Some(Growth { types: Vec::new(), ..growth }), ..heap() };
        assert!(text(&calm, 2).contains("no type has more objects than at first, or owns more"));
    }

    #[test]
    fn what_is_allocated_stands_below() {
        let of = |name: &str, per_s| TypeRate { name: name.to_owned(), per_s, samples: 9 };
        let known = Allocations {
            per_s: Some(1_234_567.0),
            error_per_s: Some(98_765.4),
            unknown: None,
            samples: 4321,
            types: vec![of("app.Token", 600_000.4), of("e\x1bvil", 1000.0), of("c", 500.0)],
            others_per_s: Some(400_000.0),
        };
        let lines = |found: Allocations| {
            let mut text = String::new();
            write_allocations(&mut text, &found, 2).unwrap();
            text
        };
        let expected = "\
Allocated: 1,234,567 ± 98,765 blocks a second of up to 512 bytes, a mean since the first look (by 4,321 at their end)
     a second        share  type
      600,000         49 %  app.Token
        1,000          0 %  e\\x1bvil
          500          0 %  1 further type (--top lists more)
      400,000         32 %  no objects: bodies of lists, tables of dicts, buffers
";
        assert_eq!(lines(known.clone()), expected);
        let unknown = Some("too little was seen yet".to_owned());
        let found = Allocations { per_s: None, unknown, ..known };
        let expected = "Allocations a second: not known: too little was seen yet\n";
        assert_eq!(lines(found), expected);
    }
}
