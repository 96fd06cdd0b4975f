//! Threads that are born and end by the thousands while they are observed.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Leaktrace};
use leak_tests::program::Program;
use leak_tests::skip;
use leak_tests::target::Target;
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::Duration;

/// Twice as many come and go: more than the tables for threads hold at a time.
const THREADS: u64 = 10_000;

/// Its own memory may grow by so much meanwhile.
const ROOM: u64 = 16 << 20;

/// Waits until so many threads more have ended, by what the program says.
fn await_ended(target: &mut Target, more: u64) {
    let count = |line: String| line.strip_prefix("ended ").unwrap().parse::<u64>().unwrap();
    let next = |target: &mut Target| count(target.line(Duration::from_secs(60)).unwrap());
    let until = next(target) + more;
    while next(target) < until {}
}

fn short_lived_threads(python: &Interpreter) {
    if python.name != "py3.12" && !skip::is_all() {
        skip!("run on py3.12 alone without --all");
    }
    let program = Program::open("short_threads").unwrap();
    for clean in [false, true] {
        let args: &[&str] = if clean { &["--clean"] } else { &[] };
        let mut running = program.start(python, args).unwrap();
        let pid = running.target.pid().to_string();
        let mut command = Command::new(leaktrace::binary().unwrap());
        let args = ["--pid", &pid, "--duration", "120s", "--format", "json"];
        let leaktrace = Leaktrace::start(command.args(args)).unwrap();
        await_ended(&mut running.target, THREADS);
        let before = leaktrace.resident().unwrap();
        await_ended(&mut running.target, THREADS);
        let after = leaktrace.resident().unwrap();
        leaktrace.signal(Signal::SIGINT).unwrap();
        let report = leaktrace.wait().unwrap().report().unwrap();
        assert!(after < before + ROOM, "leaktrace grew from {before} to {after} bytes");
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
