//! A build without a GIL: its objects are mimalloc's, and its threads run side by side.

mod common;

use leak_tests::interpreter::{self, FREE_THREADED};
use leak_tests::leaktrace;
use leak_tests::program::Program;
use leak_tests::skip;

const SECONDS: u32 = 20;

/// Traces a program and the same without its leak.
fn judge(name: &str) {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let Some(python) = interpreter::find(FREE_THREADED) else {
        skip!("{FREE_THREADED} isn't here; `cargo xtask setup --free-threaded` builds it");
    };
    let program = Program::open(name).unwrap();
    for clean in [false, true] {
        let args: &[&str] = if clean { &["--clean"] } else { &[] };
        let running = program.start(&python, args).unwrap();
        let outcome = leaktrace::observe(running.target.pid(), SECONDS).unwrap();
        let report = outcome.report().unwrap();
        assert_eq!(report["verdict"], if clean { "no-leak" } else { "leak" }, "{report:#}");
        let leaks = report["leaks"].as_array().unwrap();
        assert_eq!(leaks.is_empty(), clean, "{report:#}");
        for leak in leaks {
            assert!(program.is_culprit(&leak["stack"]), "{report:#}");
        }
    }
}

#[test]
fn small_objects() {
    judge("small");
}

#[test]
fn mapped_memory() {
    judge("mmap_buffers");
}

#[test]
fn threads_side_by_side() {
    judge("short_threads");
}
