//! Who keeps objects alive, for people.

use std::fmt::Write as _;

use super::escape::escape;
use super::text::number::{counted, percent};
use crate::snapshot::heap::Heap;
use crate::snapshot::why::{Group, Why};

/// Ways of hanging that are shown.
const MOST: usize = 5;

/// As text. Every character that the target chose is escaped.
#[must_use]
pub fn text(heap: &Heap, why: &Why) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_why(&mut text, heap, why);
    text
}

fn write_why(text: &mut String, heap: &Heap, why: &Why) -> std::fmt::Result {
    let (pid, python) = (heap.target.pid, escape(&heap.target.python));
    write!(text, "Who keeps {} alive in process {pid}, Python {python}", escape(&why.name))?;
    match heap.stood_still_s {
        Some(s) => writeln!(text, "; it stood still for {s:.2} s")?,
        None => writeln!(text, " (it ran on meanwhile)")?,
    }
    if why.samples < why.count {
        let objects = counted(why.count, "object");
        writeln!(text, "{objects}, of which {} were looked into", why.samples)?;
    } else {
        writeln!(text, "{}", counted(why.count, "object"))?;
    }
    if let Some(holder) = &why.holder {
        let share = percent(share(holder.samples, why));
        if let Some((class, way)) = holder.path.split_last() {
            writeln!(text, "\n{share} hang from {} ({})", path(way), escape(class))?;
        }
    }
    for group in why.groups.iter().take(MOST) {
        write_group(text, group, why)?;
    }
    let untold = why.groups.iter().skip(MOST).map(|group| group.samples);
    let others = untold.fold(why.others, u64::saturating_add);
    if others > 0 {
        let share = percent(share(others, why));
        writeln!(text, "\n{share} in other ways (--format json tells more of them)")?;
    }
    if why.unheld > 0 {
        write_unheld(text, heap, why)?;
    }
    if why.over > 0 {
        let lost = counted(why.over, "reference");
        writeln!(text, "\nLost: {lost} or objects that there was no room for")?;
    }
    Ok(())
}

fn write_group(text: &mut String, group: &Group, why: &Why) -> std::fmt::Result {
    if why.samples > 1 {
        let number = percent(share(group.samples, why));
        write!(text, "\n{number} in this way; of one, at 0x{:x}", group.object)?;
    } else {
        write!(text, "\nThe one at 0x{:x}", group.object)?;
    }
    writeln!(text, "{}:", if group.maybe { " (maybe)" } else { "" })?;
    writeln!(text, "  {}", path(&group.path))
}

/// What nothing holds.
fn write_unheld(text: &mut String, heap: &Heap, why: &Why) -> std::fmt::Result {
    if why.in_cycles > 0 {
        let is_off = heap.collectors.iter().any(|collector| !collector.enabled);
        let state = if is_off {
            "the collector is off: nothing frees them"
        } else {
            "the collector frees them when it comes to them"
        };
        let part = percent(share(why.in_cycles, why));
        writeln!(text, "\n{part} hang only from cycles ({state}):")?;
        for cycle in &why.cycles {
            writeln!(text, "  {}", path(cycle))?;
        }
    }
    let rest = why.unheld.saturating_sub(why.in_cycles);
    if rest > 0 {
        let part = percent(share(rest, why));
        let reason = if why.complete {
            "held by memory of compiled code or the C heap, or just dropped"
        } else {
            "the search ended before all that leads to them was found"
        };
        writeln!(text, "\n{part} hang from nothing that was found: {reason}")?;
    }
    Ok(())
}

fn share(samples: u64, why: &Why) -> f64 {
    samples as f64 / why.samples.max(1) as f64
}

fn path(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| escape(word)).collect();
    words.join(" → ")
}

#[cfg(test)]
pub(in crate::sink) mod tests {
    use super::*;
    use crate::sink::heap::tests::heap;
    use crate::snapshot::why::Holder;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    pub(in crate::sink) fn why() -> Why {
        let group = |samples, maybe, path: &[&str]| Group {
            samples,
            maybe,
            object: 0x7f00_1230,
            path: words(path),
        };
        Why {
            name: "app.Note".to_owned(),
            count: 1_000_000,
            samples: 100,
            passes: 4,
            complete: true,
            others: 0,
            in_cycles: 8,
            groups: vec![
                group(90, false, &["module app", "app.cache", "dict['e\x1b[31mvil']", "app.Note"]),
                group(2, true, &["a variable of x.so", "app.Note"]),
            ],
            holder: Some(Holder {
                samples: 90,
                path: words(&["module app", "app.cache", "builtins.dict"]),
            }),
            unheld: 8,
            cycles: vec![words(&["Note.other", "app.Note"])],
            over: 0,
        }
    }

    #[test]
    fn what_people_see() {
        let expected = "\
Who keeps app.Note alive in process 7, Python 3.11.7 (it ran on meanwhile)
1,000,000 objects, of which 100 were looked into

90 % hang from module app → app.cache (builtins.dict)

90 % in this way; of one, at 0x7f001230:
  module app → app.cache → dict['e\\x1b[31mvil'] → app.Note

2 % in this way; of one, at 0x7f001230 (maybe):
  a variable of x.so → app.Note

8 % hang only from cycles (the collector is off: nothing frees them):
  Note.other → app.Note
";
        assert_eq!(text(&heap(), &why()), expected);
    }

    #[test]
    fn what_hangs_from_nothing_is_said() {
        let one = Why { count: 1, samples: 1, groups: Vec::new(), holder: None, ..why() };
        let none = Why { unheld: 1, in_cycles: 0, cycles: Vec::new(), over: 3, ..one };
        let early = text(&heap(), &Why { complete: false, ..none.clone() });
        assert!(early.contains("found: the search ended before"), "{early}");
        let text = text(&heap(), &none);
        assert!(text.contains("100 % hang from nothing that was found: held by"), "{text}");
        assert!(
            text.contains("Lost: 3 references or objects that there was no room for"),
            "{text}"
        );
    }

    #[test]
    fn programs_read_back_the_same() {
        let line = serde_json::to_string(&why()).unwrap();
        assert_eq!(serde_json::from_str::<Why>(&line).unwrap(), why());
    }
}
