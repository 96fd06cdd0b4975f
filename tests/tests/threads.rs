//! Threads that are born and end by the thousands while they are observed.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use leak_tests::skip;
use leak_tests::target::Target;
use std::time::Duration;

const SECONDS: u32 = 20;

/// More than the tables for threads hold at a time.
const THREADS: u64 = 10_000;

/// How many threads have ended, by what the program has said since it was asked last.
fn ended(target: &mut Target) -> Option<u64> {
    let mut latest = None;
    while let Ok(line) = target.line(Duration::ZERO) {
        latest = line.strip_prefix("ended ").and_then(|count| count.parse().ok());
    }
    latest
}

fn short_lived_threads(python: &Interpreter) {
    if python.name != "py3.12" && !skip::is_all() {
        skip!("run on py3.12 alone without --all");
    }
    let program = Program::open("short_threads").unwrap();
    for clean in [false, true] {
        let args: &[&str] = if clean { &["--clean"] } else { &[] };
        let mut running = program.start(python, args).unwrap();
        let before = ended(&mut running.target).unwrap_or(0);
        let report = leaktrace::observe(running.target.pid(), SECONDS).unwrap().report().unwrap();
        let count = ended(&mut running.target).unwrap() - before;
        assert!(count > THREADS, "only {count} threads came and went");
        assert_eq!(report["verdict"], if clean { "no-leak" } else { "leak" }, "{report:#}");
        for leak in report["leaks"].as_array().unwrap() {
            assert!(program.is_culprit(&leak["stack"]), "{report:#}");
        }
        // Of the rest, a thread within the allocator when a burst begins returns without a call.
        for cause in ["map_full", "ring_full", "stacks_missing", "unreadable", "unresolved_frames"]
        {
            assert_eq!(report["losses"][cause], 0, "{cause}: {report:#}");
        }
    }
}

for_each_interpreter!(bare: short_lived_threads);
