//! The report for programs: one JSON object and a newline.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::escape::is_unsafe;
use super::{Sink, SinkError};
use crate::snapshot::Snapshot;

/// `--format json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Sink for Json {
    fn render(&self, snapshot: &Snapshot) -> Result<Vec<u8>, SinkError> {
        to_line(snapshot)
    }
}

/// Any report as one line.
pub(crate) fn to_line(report: &impl Serialize) -> Result<Vec<u8>, SinkError> {
    let mut line = Vec::new();
    report.serialize(&mut Serializer::with_formatter(&mut line, Visible))?;
    line.push(b'\n');
    Ok(line)
}

/// Compact JSON in which what [`is_unsafe`] on a terminal is written as a `\u` escape: the same value to
/// every parser, and harmless to who looks at it.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_unsafe(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::text::examples;
    use proptest::prelude::*;

    #[test]
    fn one_object_with_a_newline_that_reads_back_the_same() {
        for (name, snapshot) in examples::all() {
            let line = Json.render(&snapshot).unwrap();
            assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1, "{name}");
            assert_eq!(line.last(), Some(&b'\n'));
            assert_eq!(serde_json::from_slice::<Snapshot>(&line).unwrap(), snapshot, "{name}");
        }
    }

    #[test]
    fn the_contract_holds() {
        let line = Json.render(&examples::leak()).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(report["schema"], "leaktrace.report/1");
        assert_eq!(report["verdict"], "leak");
        for pointer in [
            "/target/pid",
            "/target/python",
            "/target/exe",
            "/target/cmdline/0",
            "/target/cwd",
            "/observed/start_ns",
            "/observed/duration_s",
            "/observed/bursts",
            "/observed/first_burst_s",
            "/overhead/budget",
            "/overhead/spent",
            "/overhead/of_own_work",
            "/overhead/hits",
            "/overhead/ns_per_hit",
            "/coverage/pymalloc",
            "/losses/ring_full",
            "/losses/map_full",
            "/leaks/0/rank",
            "/leaks/0/confidence",
            "/leaks/0/trend",
            "/leaks/0/domain",
            "/leaks/0/growth_bytes_per_s",
            "/leaks/0/live_bytes",
            "/leaks/0/live_count",
            "/leaks/0/survival",
            "/leaks/0/types/0/type",
            "/leaks/0/types/0/share",
            "/leaks/0/stack/0/kind",
            "/leaks/0/stack/0/function",
            "/leaks/0/stack/0/file",
            "/leaks/0/stack/0/line",
            "/leaks/0/retained_by",
            "/sites",
            "/memory/rss_bytes",
            "/memory/growth_bytes_per_s",
            "/memory/split/python_live",
            "/memory/split/held_free",
            "/memory/split/fragmentation",
            "/memory/split/file",
            "/memory/split/unattributed",
            "/fresh_memory/0/bytes_per_s",
            "/fresh_memory/0/touched_bytes",
            "/fresh_memory/0/heap_growth_bytes",
            "/fresh_memory/0/stack/0/line",
        ] {
            assert!(report.pointer(pointer).is_some(), "{pointer}");
        }
        assert_eq!(report["leaks"][0]["stack"][0]["kind"], "python");
    }

    proptest! {
        #[test]
        fn any_text_survives_and_none_is_obeyed(text in any::<String>()) {
            let line = to_line(&text).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<String>(&line).unwrap(), &text);
            let shown = String::from_utf8(line).unwrap();
            prop_assert!(!shown.trim_end_matches('\n').chars().any(is_unsafe));
        }
    }
}
