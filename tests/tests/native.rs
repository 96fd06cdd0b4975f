//! Culprits of compiled code: the function is named, and the line that called it.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::{Program, is_function};
use leak_tests::report;
use leak_tests::skip;
use serde_json::Value;
use std::process::Command;

/// Traces a program of compiled code that leaks, and the same without its leak. The program compiles its
/// code itself.
fn judge(name: &str, compiler: &str, python: &Interpreter, is_right: fn(&Program, &Value) -> bool) {
    if python.name != "py3.11" && !skip::is_all() {
        skip!("left out without --all");
    }
    if Command::new(compiler).arg("--version").output().is_err() {
        skip!("needs {compiler}");
    }
    let headers = "import sysconfig; open(sysconfig.get_paths()['include'] + '/Python.h')";
    let headers = Command::new(&python.path).args(["-c", headers]).output().unwrap();
    if name == "native_c" && !headers.status.success() {
        skip!("needs the headers of {}", python.name);
    }
    let program = Program::open(name).unwrap();
    for clean in [false, true] {
        let args: &[&str] = if clean { &["--clean"] } else { &[] };
        let mut running = program.start(python, args).unwrap();
        let report = report::judged(running.target.pid()).unwrap();
        assert!(running.target.ended().unwrap().is_none(), "the program ended");
        let verdict = if clean { "no-leak" } else { "leak" };
        assert_eq!(report["verdict"], verdict, "{report:#}");
        let leaks = report["leaks"].as_array().unwrap();
        assert_eq!(leaks.len(), usize::from(!clean), "{report:#}");
        for leak in leaks {
            assert_eq!(leak["domain"], program.domain.as_str(), "{report:#}");
            assert!(is_right(&program, leak), "{report:#}");
        }
        assert_eq!(report["losses"]["stacks_missing"], 0, "{report:#}");
    }
}

/// The line is the leaking one, and the native culprit lies between it and the allocator.
fn line_and_function(program: &Program, leak: &Value) -> bool {
    program.is_culprit(&leak["stack"])
}

fn a_c_extension(python: &Interpreter) {
    judge("native_c", "cc", python, line_and_function);
}

fn a_cpp_library(python: &Interpreter) {
    judge("native_cpp", "c++", python, line_and_function);
}

fn a_rust_library(python: &Interpreter) {
    judge("native_rust", "rustc", python, line_and_function);
}

fn blocks_of_ctypes(python: &Interpreter) {
    judge("native_ctypes", "true", python, line_and_function);
}

/// No line is to blame, but a function, in a thread with a name.
fn a_thread_without_python(python: &Interpreter) {
    judge("native_thread", "cc", python, |program, leak| {
        let frames = leak["stack"].as_array().unwrap();
        let culprit = program.native.as_deref().unwrap();
        is_function(&frames[0], culprit)
            && frames.iter().all(|frame| frame["kind"] == "native")
            && leak["thread"] == "collector"
    });
}

/// With `--native`, Python frames stand where the interpreter's loop ran them, in every version.
fn whole_stacks(python: &Interpreter) {
    let program = Program::open("small").unwrap();
    let running = program.start(python, &[]).unwrap();
    let pid = running.target.pid().to_string();
    let args = ["--pid", &pid, "--duration", "8s", "--format", "json", "--native"];
    let report = leaktrace::run(&args).unwrap().report().unwrap();
    let sites = ["leaks", "sites"].map(|list| report[list].as_array().unwrap().clone()).concat();
    let of_pymalloc = |site: &&Value| site["domain"] == "pymalloc";
    let (mut seen, mut compiled) = (0, 0);
    for site in sites.iter().filter(of_pymalloc) {
        let frames = site["stack"].as_array().unwrap();
        let kinds: Vec<&str> = frames.iter().map(|frame| frame["kind"].as_str().unwrap()).collect();
        let line = kinds.iter().position(|kind| *kind == "python");
        let last = kinds.iter().rposition(|kind| *kind == "python");
        let (Some(line), Some(last)) = (line, last) else { continue };
        seen += 1;
        // The interpreter's loop may carry a copy of the allocator.
        compiled += usize::from(line > 0);
        assert_eq!(frames[last]["function"], "<module>", "{site:#}");
        // The C library called the interpreter.
        let started = frames[last..].iter().filter_map(|frame| frame["function"].as_str());
        assert!(started.into_iter().any(|name| name.contains("Py_")), "{site:#}");
        let loops = frames.iter().filter(|frame| is_function(frame, "_PyEval_EvalFrameDefault"));
        assert_eq!(loops.count(), 0, "{site:#}");
    }
    assert!(seen > 0 && compiled > 0, "{report:#}");
}

for_each_interpreter!(
    a_c_extension,
    a_cpp_library,
    a_rust_library,
    blocks_of_ctypes,
    a_thread_without_python,
);

for_each_interpreter!(bare: whole_stacks);
