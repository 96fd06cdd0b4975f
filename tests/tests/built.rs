//! Interpreters that set-up builds when asked: without a GIL, whose objects are mimalloc's; and on musl.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::program::Program;
use leak_tests::report;

/// Traces a program and the same without its leak.
fn judge(name: &str, python: &Interpreter) {
    let program = Program::open(name).unwrap();
    for clean in [false, true] {
        let args: &[&str] = if clean { &["--clean"] } else { &[] };
        let running = program.start(python, args).unwrap();
        let report = report::judged(running.target.pid()).unwrap();
        assert_eq!(report["verdict"], if clean { "no-leak" } else { "leak" }, "{report:#}");
        let leaks = report["leaks"].as_array().unwrap();
        assert_eq!(leaks.is_empty(), clean, "{report:#}");
        for leak in leaks {
            assert!(program.is_culprit(&leak["stack"]), "{report:#}");
        }
    }
}

fn small_objects(python: &Interpreter) {
    judge("small", python);
}

fn large_objects(python: &Interpreter) {
    judge("large_bytes", python);
}

fn mapped_memory(python: &Interpreter) {
    judge("mmap_buffers", python);
}

for_each_interpreter!(built: small_objects, large_objects, mapped_memory);
