//! Interpreters that set-up builds when asked: without a GIL, whose objects are mimalloc's; and on musl.

mod common;

use leak_tests::interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;
use leak_tests::skip;

const SECONDS: u32 = 20;

/// Traces a program and the same without its leak.
fn judge(name: &str, python: &str) {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let Some(python) = interpreter::find(python) else {
        skip!("{python} isn't here; `cargo xtask setup --built` builds it");
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

mod small_objects {
    #[test]
    fn py3_13t() {
        super::judge("small", "py3.13t");
    }

    #[test]
    fn musl3_13() {
        super::judge("small", "musl3.13");
    }
}

mod large_objects {
    #[test]
    fn py3_13t() {
        super::judge("large_bytes", "py3.13t");
    }

    #[test]
    fn musl3_13() {
        super::judge("large_bytes", "musl3.13");
    }
}

mod mapped_memory {
    #[test]
    fn py3_13t() {
        super::judge("mmap_buffers", "py3.13t");
    }

    #[test]
    fn musl3_13() {
        super::judge("mmap_buffers", "musl3.13");
    }
}
