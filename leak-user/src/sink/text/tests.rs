//! Whole reports against golden files, and against hostile text.

use std::path::Path;

use proptest::prelude::*;

use super::{Text, examples};
use crate::sink::page::width;
use crate::sink::{By, Sink as _, Terminal, View};
use crate::snapshot::{Frame, FrameKind, FreshMemory, Site, Snapshot, TypeShare, Verdict};

/// Set it to write the golden files anew; read the difference before it is committed.
const BLESS: &str = "LEAKTRACE_BLESS";

fn text(snapshot: &Snapshot, width: usize, colour: bool) -> String {
    let report = Text::new(Terminal { width, colour }, None).render(snapshot).unwrap();
    String::from_utf8(report).unwrap()
}

#[test]
fn reports_are_the_golden_ones() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sink/golden");
    let mut wrong = Vec::new();
    for (name, snapshot) in examples::all() {
        for width in [80, 120] {
            let report = text(&snapshot, width, false);
            let path = golden.join(format!("{name}.{width}.txt"));
            if std::env::var_os(BLESS).is_some() {
                std::fs::write(&path, &report).unwrap();
            }
            if std::fs::read_to_string(&path).unwrap_or_default() != report {
                wrong.push(format!("{}:\n{report}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "differ ({BLESS}=1 writes them anew):\n{}", wrong.join("\n"));
}

#[test]
fn views_fit_the_terminal_and_say_what_they_show() {
    let kinds = [By::Line, By::Function, By::File, By::Package, By::Type, By::Traceback];
    let snapshot = examples::leak();
    for (by, cumulative) in kinds.into_iter().flat_map(|by| [(by, false), (by, true)]) {
        for columns in [Terminal::NARROWEST, 80, 120] {
            let view = View { by, cumulative, top: 2 };
            let terminal = Terminal { width: columns, colour: false };
            let report = Text::new(terminal, Some(view)).render(&snapshot).unwrap();
            let report = String::from_utf8(report).unwrap();
            assert!(report.contains("What is held, by "), "{report}");
            assert!(!report.contains("Other lines that hold memory"), "{report}");
            assert!(report.lines().all(|line| width(line) <= columns), "{columns}:\n{report}");
        }
    }
}

#[test]
fn colour_changes_the_look_and_no_letter() {
    for (name, snapshot) in examples::all() {
        let coloured = text(&snapshot, 100, true);
        assert!(coloured.contains("\x1b["), "{name}");
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        let trimmed =
            |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&plain), trimmed(&text(&snapshot, 100, false)), "{name}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for (name, snapshot) in examples::all() {
        for columns in Terminal::NARROWEST..=160 {
            for line in text(&snapshot, columns, false).lines() {
                assert!(width(line) <= columns, "{name} at {columns}: {line:?}");
            }
        }
    }
}

#[test]
fn the_verdict_line_names_the_line_and_its_growth() {
    for columns in [60, 80, 100, 120] {
        let report = text(&examples::leak(), columns, false);
        let first = report.lines().next().unwrap();
        assert!(first.starts_with("LEAK  embeddings.py:41"), "{first}");
        assert!(first.ends_with("+1.02 MiB/s (+3.59 GiB/h)"), "{first}");
    }
}

#[test]
fn numbers_that_are_none_do_not_show_as_such() {
    let mut snapshot = examples::leak();
    snapshot.leaks[0].growth_bytes_per_s = f64::NAN;
    snapshot.leaks[0].growth_interval = (f64::NEG_INFINITY, f64::INFINITY);
    snapshot.leaks[0].confidence = f64::NAN;
    snapshot.memory.growth_interval = (f64::NAN, f64::NAN);
    snapshot.observed.duration_s = f64::NAN;
    let report = text(&snapshot, 100, false);
    assert!(!report.contains("NaN") && !report.contains("inf "), "{report}");
}

#[test]
fn what_holds_nothing_is_not_listed() {
    let mut snapshot = examples::no_leak();
    let row = "json/decoder.py:353";
    assert!(text(&snapshot, 100, false).contains(row));
    for site in &mut snapshot.sites {
        (site.live_bytes, site.growth_bytes_per_s) = (0, 0.0);
    }
    let report = text(&snapshot, 100, false);
    assert!(!report.contains(row) && !report.contains("not accused"), "{report}");
}

#[test]
fn fresh_memory_shows_where_memory_grows_or_nothing_could_be_shown() {
    let shows = |snapshot: &Snapshot| text(snapshot, 100, false).contains("first touched");
    let (leak, no_leak) = (examples::leak(), examples::no_leak());
    assert!(shows(&leak) && !shows(&no_leak));
    let mut snapshot = no_leak.clone();
    snapshot.memory.growth_interval = (1.0, 2.0);
    assert!(shows(&snapshot));
    snapshot.memory.growth_interval = (-1.0, 2.0);
    snapshot.verdict = Verdict::Inconclusive;
    assert!(shows(&snapshot));
    snapshot.fresh_memory.clear();
    assert!(!shows(&snapshot));
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let source = proptest::option::of(any::<String>());
    (any::<bool>(), any::<String>(), any::<String>(), any::<u32>(), source).prop_map(
        |(native, function, file, line, source)| Frame {
            kind: if native { FrameKind::Native } else { FrameKind::Python },
            function,
            file,
            line,
            module: native.then(|| "libx.so".to_owned()),
            source,
        },
    )
}

fn any_site() -> impl Strategy<Value = Site> {
    (
        proptest::collection::vec(any_frame(), 0..8),
        proptest::collection::vec(any::<String>(), 0..4),
        any::<(String, String, f64, f64, f64)>(),
        any::<(u64, u64, u32)>(),
    )
        .prop_map(
            |(stack, texts, (trend, domain, growth, low, share), (bytes, count, rank))| Site {
                rank,
                finding: rank % 4,
                pid: count as u32,
                confidence: share,
                trend,
                domain,
                memory: texts.last().cloned(),
                device: Some(rank),
                growth_bytes_per_s: growth,
                growth_interval: (low, growth),
                live_bytes: bytes,
                live_count: count,
                survival: share,
                types: texts.iter().map(|name| TypeShare { name: name.clone(), share }).collect(),
                own_frame: None,
                stack,
                thread: texts.first().cloned(),
                retained_by: texts.clone(),
                retained_by_maybe: false,
                cleared_if: texts.first().cloned(),
                lacks: texts.last().cloned(),
                reasons: texts,
                accused_since_s: None,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn whatever_the_target_is_called_the_report_is_text(
        leaks in proptest::collection::vec(any_site(), 0..8),
        sites in proptest::collection::vec(any_site(), 0..14),
        texts in proptest::collection::vec(any::<String>(), 0..4),
        word in any::<String>(),
        which in 0_usize..8,
        columns in Terminal::NARROWEST..140,
    ) {
        let mut snapshot = examples::all().swap_remove(which).1;
        snapshot.leaks = leaks;
        snapshot.sites = sites;
        snapshot.target.cmdline = texts.clone();
        snapshot.target.cwd = Some(word.clone());
        snapshot.target.exe = word.clone();
        snapshot.fresh_memory = snapshot
            .sites
            .iter()
            .map(|site| FreshMemory {
                bytes_per_s: site.growth_bytes_per_s,
                touched_bytes: site.live_bytes,
                heap_growth_bytes: site.live_count,
                stack: site.stack.clone(),
            })
            .collect();
        if let Some(tree) = &mut snapshot.tree {
            tree.others[0].program = word.clone();
        }
        snapshot.target.python = word.clone();
        snapshot.target.allocator = word;
        snapshot.reasons = texts.clone();
        snapshot.unseen = texts;
        let report = text(&snapshot, columns, false);
        for line in report.lines() {
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            prop_assert!(!line.chars().any(crate::sink::escape::is_unsafe), "{line:?}");
            prop_assert!(width(line) <= columns, "{line:?}");
        }
        prop_assert!(report.ends_with('\n'));
    }
}
