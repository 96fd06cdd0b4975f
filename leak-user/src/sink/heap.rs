//! A process's heap for people.

use std::fmt::Write as _;

use super::escape::escape;
use super::growth;
use super::text::memory::{c_parts, parts};
use super::text::number::{count, counted, percent};
use crate::snapshot::heap::{Collector, Count, Generation, Heap, Losses, TypeCount};
use crate::units::Bytes;

/// The heap as text, with so many types. Every character that the target chose is escaped.
#[must_use]
pub fn text(heap: &Heap, top: usize) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_heap(&mut text, heap, top);
    text
}

fn write_heap(text: &mut String, heap: &Heap, top: usize) -> std::fmt::Result {
    if let Some(growth) = heap.growth.as_ref().filter(|growth| growth.look > 1) {
        return growth::write(text, heap, growth, top);
    }
    let (objects, bytes) = (sum(&heap.types, |one| one.count), sum(&heap.types, TypeCount::size));
    let types = counted(heap.types.len() as u64, "type");
    let (pid, python) = (heap.target.pid, escape(&heap.target.python));
    write!(text, "Heap of process {pid}, Python {python}, read in {:.2} s", heap.took_s)?;
    match heap.stood_still_s {
        Some(s) => writeln!(text, "; it stood still for {s:.2} s")?,
        None => writeln!(text, " while it ran on")?,
    }
    writeln!(text, "{} of {types}, {}\n", counted(objects, "object"), Bytes(bytes))?;
    writeln!(text, "{:>13} {:>11} {:>11}  type", "objects", "bytes", "owned")?;
    let (listed, others) = heap.types.split_at(heap.types.len().min(top));
    for one in listed {
        let (number, bytes) = (count(one.count), Bytes(one.bytes).to_string());
        let owned = owned(one.owned);
        writeln!(text, "{number:>13} {bytes:>11} {owned:>11}  {}", escape(&one.name))?;
    }
    if !others.is_empty() {
        let number = count(sum(others, |one| one.count));
        let bytes = Bytes(sum(others, |one| one.bytes)).to_string();
        let owned = owned(sum(others, |one| one.owned));
        let types = counted(others.len() as u64, "further type");
        writeln!(text, "{number:>13} {bytes:>11} {owned:>11}  {types} (--top lists more)")?;
    }
    writeln!(text)?;
    writeln!(text, "owned: bodies of lists, tables of dicts and sets, buffers")?;
    blocks(text, "Beside them, shared tables, attributes, extensions' blocks", heap.raw)?;
    blocks(text, "Dead objects that the interpreter keeps to hand out again", heap.recycled)?;
    writeln!(
        text,
        "Not counted: memory of extensions, such as arrays' data; objects over 512 bytes that only they \
         hold, or running functions"
    )?;
    pymalloc(text, heap)?;
    for collector in &heap.collectors {
        let of_it = |one: &&Generation| one.interpreter == collector.interpreter;
        write_collector(text, collector, heap.gc.iter().filter(of_it))?;
    }
    memory(text, heap)?;
    losses(text, &heap.losses)
}

/// RSS by its parts.
fn memory(text: &mut String, heap: &Heap) -> std::fmt::Result {
    writeln!(text, "\nWhere the memory is")?;
    let row = |text: &mut String, name: &str, bytes: u64| {
        let share = percent((100.0 * bytes as f64 / heap.rss_bytes as f64).round() / 100.0);
        writeln!(text, "  {name:<30} {:>10} {share:>7}", Bytes(bytes).to_string())
    };
    let split = &heap.split;
    for (name, bytes) in parts(split) {
        row(text, name, bytes)?;
    }
    for (name, bytes) in heap.c_heap.iter().flat_map(c_parts) {
        row(text, name, bytes)?;
    }
    row(text, "  large objects and tables", heap.large_bytes.min(split.unattributed))?;
    row(text, "RSS", heap.rss_bytes)
}

/// A sum over types, of numbers that the target may have made up.
pub(super) fn sum(types: &[TypeCount], of: impl Fn(&TypeCount) -> u64) -> u64 {
    types.iter().fold(0, |sum, one| sum.saturating_add(of(one)))
}

/// What types own, or nothing where they own nothing.
fn owned(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { Bytes(bytes).to_string() }
}

fn blocks(text: &mut String, what: &str, Count { count, bytes }: Count) -> std::fmt::Result {
    writeln!(text, "{what}: {}, {}", counted(count, "block"), Bytes(bytes))
}

fn pymalloc(text: &mut String, heap: &Heap) -> std::fmt::Result {
    let held = &heap.pymalloc;
    if held.arenas == 0 {
        return writeln!(
            text,
            "pymalloc is not in use: objects are counted that the collector tracks, and what they refer to"
        );
    }
    writeln!(
        text,
        "pymalloc: {}, {} in use; free: {} between them, {} in empty pools; {} of {}",
        counted(held.live_blocks, "block"),
        Bytes(held.live_bytes),
        Bytes(held.free_bytes),
        Bytes(held.held_free),
        counted(held.arenas, "arena"),
        Bytes(held.arena_bytes),
    )
}

fn write_collector<'a>(
    text: &mut String,
    collector: &Collector,
    generations: impl Iterator<Item = &'a Generation>,
) -> std::fmt::Result {
    let state = match (collector.collecting, collector.enabled) {
        (true, _) => "at work",
        (false, true) => "on",
        (false, false) => "off: cycles are not freed",
    };
    let whose = match collector.interpreter {
        0 => String::new(),
        id => format!(" of interpreter {id}"),
    };
    write!(text, "Collector{whose}: {state}")?;
    if collector.frozen {
        write!(text, "; objects are put aside (gc.freeze, or 3.12's own)")?;
    }
    if collector.garbage > 0 {
        write!(text, "; {} in gc.garbage", counted(collector.garbage, "object"))?;
    }
    writeln!(text)?;
    for one in generations {
        write!(
            text,
            "  generation {}: {} of {}, {}, {} freed",
            one.generation,
            one.count,
            one.threshold,
            counted(one.collections, "collection"),
            counted(one.collected, "object"),
        )?;
        if one.uncollectable > 0 {
            write!(text, ", {} that can't be", count(one.uncollectable))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

pub(super) fn losses(text: &mut String, losses: &Losses) -> std::fmt::Result {
    let all = [
        (losses.torn_pools, "pools that changed each time they were read"),
        (losses.unreadable_pools, "pools that were given back meanwhile"),
        (losses.implausible, "arenas or pools that made no sense"),
        (losses.lost_links, "tracked objects that went while they were looked for"),
        (
            losses.places_over,
            "places outside of pymalloc, objects or not, that there was no room to remember",
        ),
        (losses.types_over, "objects of types that there was no room for"),
        (losses.allocators, "interpreters whose blocks could not be looked at"),
        (losses.unnamed_types, "types whose names could not be read"),
        (losses.collectors, "interpreters whose collector could not be read"),
    ];
    let lost: Vec<String> = all
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    if lost.is_empty() { Ok(()) } else { writeln!(text, "Lost: {}", lost.join("; ")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snapshot::Split;
    use crate::snapshot::dump::Target;
    use crate::snapshot::heap::{CHeap, Pymalloc, SCHEMA};

    /// A heap with something of everything.
    pub(crate) fn heap() -> Heap {
        let of = |name: &str, count, bytes| TypeCount {
            name: name.to_owned(),
            count,
            tracked: 0,
            bytes,
            owned: if count == 2 { 4096 } else { 0 },
        };
        let generation = |generation, uncollectable| Generation {
            interpreter: 0,
            generation,
            count: 12,
            threshold: 700,
            collections: 1,
            collected: 3000,
            uncollectable,
        };
        Heap {
            schema: SCHEMA.to_owned(),
            leaktrace: "0.1.0".to_owned(),
            target: Target {
                pid: 7,
                python: "3.11.7".to_owned(),
                exe: String::new(),
                cmdline: Vec::new(),
            },
            took_s: 0.123,
            stood_still_s: None,
            rss_bytes: 100 << 20,
            split: Split {
                python_live: 48_001_000,
                held_free: 0,
                fragmentation: 4096,
                file: 8 << 20,
                unattributed: (92 << 20) - 48_005_096,
            },
            large_bytes: 10 << 20,
            types: vec![
                of("app.Note", 1_000_000, 48_000_000),
                of("e\x1b[31mvil", 2, 64),
                of("builtins.int", 1, 32),
            ],
            raw: Count { count: 3, bytes: 1536 },
            recycled: Count { count: 1, bytes: 64 },
            gc: vec![generation(0, 0), generation(1, 2)],
            collectors: vec![Collector {
                interpreter: 0,
                enabled: false,
                collecting: false,
                frozen: true,
                garbage: 1,
            }],
            pymalloc: Pymalloc {
                arenas: 1,
                arena_bytes: 1 << 20,
                live_blocks: 1_000_006,
                live_bytes: 48_001_000,
                free_bytes: 4096,
                held_free: 0,
            },
            c_heap: Some(CHeap {
                heaps: 1,
                in_use_bytes: 30 << 20,
                free_bytes: 12 << 20,
                free_chunks: 700,
                top_bytes: 4 << 20,
                unknown_bytes: 0,
            }),
            why: None,
            paths: Vec::new(),
            growth: None,
            allocations: None,
            losses: Losses { torn_pools: 2, ..Losses::default() },
        }
    }

    #[test]
    fn what_people_see() {
        let text = text(&heap(), 2);
        let expected = "\
Heap of process 7, Python 3.11.7, read in 0.12 s while it ran on
1,000,003 objects of 3 types, 45.8 MiB

      objects       bytes       owned  type
    1,000,000    45.8 MiB              app.Note
            2        64 B    4.00 KiB  e\\x1b[31mvil
            1        32 B              1 further type (--top lists more)

owned: bodies of lists, tables of dicts and sets, buffers
Beside them, shared tables, attributes, extensions' blocks: 3 blocks, 1.50 KiB
Dead objects that the interpreter keeps to hand out again: 1 block, 64 B
Not counted: memory of extensions, such as arrays' data; objects over 512 bytes that only they hold, or running functions
pymalloc: 1,000,006 blocks, 45.8 MiB in use; free: 4.00 KiB between them, 0 B in empty pools; 1 arena of 1.00 MiB
Collector: off: cycles are not freed; objects are put aside (gc.freeze, or 3.12's own); 1 object in gc.garbage
  generation 0: 12 of 700, 1 collection, 3,000 objects freed
  generation 1: 12 of 700, 1 collection, 3,000 objects freed, 2 that can't be

Where the memory is
  live Python objects              45.8 MiB    46 %
  free, kept by Python                  0 B     0 %
  holes between live objects       4.00 KiB     0 %
  mapped files                     8.00 MiB     8 %
  C heap, stacks, the rest         46.2 MiB    46 %
    C heap: in use                 30.0 MiB    30 %
    C heap: holes between blocks   12.0 MiB    12 %
    C heap: free at its end        4.00 MiB     4 %
    large objects and tables       10.0 MiB    10 %
  RSS                               100 MiB   100 %
Lost: 2 pools that changed each time they were read
";
        assert_eq!(text, expected);
    }

    #[test]
    fn it_is_said_for_how_long_the_process_stood_still() {
        let frozen = Heap { stood_still_s: Some(0.25), ..heap() };
        assert!(text(&frozen, 1).contains("read in 0.12 s; it stood still for 0.25 s\n"));
    }

    #[test]
    fn it_is_said_where_pymalloc_is_not_in_use() {
        let none = Heap { pymalloc: Pymalloc::default(), ..heap() };
        assert!(text(&none, 1).contains("pymalloc is not in use"));
    }

    #[test]
    fn programs_read_back_the_same() {
        let line = serde_json::to_string(&heap()).unwrap();
        assert!(line.contains(r#""type":"app.Note""#), "{line}");
        assert_eq!(serde_json::from_str::<Heap>(&line).unwrap(), heap());
    }
}
