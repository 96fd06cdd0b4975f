//! Allocators other than glibc's and pymalloc, and what changes while a process is traced.

mod common;

use leak_tests::allocator::{self, Allocator};
use leak_tests::interpreter::{self, Interpreter};
use leak_tests::leaktrace::{self, Leaktrace, Outcome};
use leak_tests::maps::{altered_code, await_probe};
use leak_tests::program::{Program, directory};
use leak_tests::report::{self, Report};
use leak_tests::skip;
use leak_tests::target::Target;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Starts a program in another environment.
fn start(
    program: &str,
    python: &Interpreter,
    args: &[&str],
    env: &[(&str, &str)],
) -> (Program, Target) {
    let program = Program::open(program).unwrap();
    let mut command = python.run(&program.path).unwrap();
    command.args(args).envs(env.iter().copied());
    let target = Target::spawn(&mut command).unwrap();
    (program, target)
}

fn traced(target: &mut Target, args: &[&str]) -> Report {
    let report = report::judged_with(target.pid(), args).unwrap();
    must_be_unharmed(target);
    report
}

fn checked(outcome: &Outcome, target: &mut Target) -> Value {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    must_be_unharmed(target);
    outcome.report().unwrap()
}

fn must_be_unharmed(target: &mut Target) {
    assert!(target.ended().unwrap().is_none(), "the program ended");
    assert_eq!(altered_code(target.pid()).unwrap(), Vec::<String>::new());
}

fn must_accuse(program: &Program, report: &Value) {
    assert_eq!(report["verdict"], "leak", "{report:#}");
    let first = &report["leaks"][0];
    assert_eq!(first["domain"], "malloc", "{report:#}");
    for leak in report["leaks"].as_array().unwrap() {
        assert!(program.is_culprit(&leak["stack"]), "{:?}: {report:#}", program.leaks);
    }
}

fn must_acquit(report: &Value) {
    assert_eq!(report["leaks"], Value::Array(Vec::new()), "{report:#}");
    assert_ne!(report["verdict"], "leak", "{report:#}");
}

fn says(report: &Value, word: &str) -> bool {
    let unseen = report["unseen"].as_array().unwrap();
    unseen.iter().any(|sentence| sentence.as_str().unwrap().contains(word))
}

/// What `doctor` calls the heap of a process.
fn heap(pid: u32) -> String {
    let pid = pid.to_string();
    let outcome = leaktrace::run(&["doctor", "--pid", &pid, "--format", "json"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.report().unwrap();
    let checks = report["process"]["checks"].as_array().unwrap();
    let heap = checks.iter().find(|check| check["name"] == "C heap").unwrap();
    heap["found"].as_str().unwrap().to_owned()
}

/// A preloaded allocator, a program's leak and its clean twin.
fn judge_preloaded(allocator: &Allocator, program: &str) {
    let python = any_python!();
    let Some(library) = allocator.find() else {
        skip!("{} isn't here; `cargo xtask setup` finds it", allocator.name);
    };
    let preload = [("LD_PRELOAD", library.to_str().unwrap())];
    let (program_file, mut leaking) = start(program, &python, &[], &preload);
    let heap = heap(leaking.pid());
    assert!(heap.starts_with(&format!("{} (", allocator.name)), "{heap}");
    let report = traced(&mut leaking, &[]);
    must_accuse(&program_file, &report);
    assert!(says(&report, allocator.name), "{report:#}");
    drop(leaking);
    let (_, mut clean) = start(program, &python, &["--clean"], &preload);
    must_acquit(&traced(&mut clean, &[]));
}

#[test]
fn jemalloc_is_followed() {
    judge_preloaded(&allocator::ALL[0], "large_bytes");
}

#[test]
fn tcmalloc_is_followed() {
    judge_preloaded(&allocator::ALL[1], "large_bytes");
}

#[test]
fn mimalloc_is_followed() {
    judge_preloaded(&allocator::ALL[2], "large_bytes");
}

#[test]
fn numpy_on_other_allocators() {
    if !skip::is_all() {
        skip!("left out without --all");
    }
    for allocator in &allocator::ALL {
        judge_preloaded(allocator, "numpy_arrays");
    }
}

/// What it computes is what an untraced twin computes.
#[test]
fn a_target_on_another_allocator_is_unharmed() {
    let python = any_python!();
    for allocator in &allocator::ALL {
        let Some(library) = allocator.find() else { skip!("{} isn't here", allocator.name) };
        let begin = |args: &[&str]| {
            let mut command = python.run(&directory().join("result_check.py")).unwrap();
            Target::spawn(command.args(args).env("LD_PRELOAD", &library)).unwrap()
        };
        let result = |target: &mut Target| -> Value {
            serde_json::from_str(&target.line(Duration::from_secs(120)).unwrap()).unwrap()
        };
        let mut target = begin(&[]);
        let leaktrace = probing(&target, &["--duration", "60s", "--overhead", "20%"]);
        leaktrace.signal(Signal::SIGINT).unwrap();
        let report = checked(&leaktrace.wait().unwrap(), &mut target);
        assert!(report["observed"]["bursts"].as_u64().unwrap() > 0, "{report:#}");
        target.tell("stop\n").unwrap();
        let traced = result(&mut target);
        let twin = result(&mut begin(&["--rounds", &traced["rounds"].to_string()]));
        for fact in ["rounds", "digest", "kept"] {
            assert_eq!(traced[fact], twin[fact], "{}: {fact}", allocator.name);
        }
    }
}

/// C++'s `new` of an allocator does not go through its `malloc`.
#[test]
fn new_of_another_allocator() {
    const SOURCE: &str = r#"
extern "C" void *take(unsigned long size) { char *buffer = new char[size]; buffer[0] = 1; return buffer; }
extern "C" void drop(void *buffer) { delete[] static_cast<char *>(buffer); }
"#;
    let python = any_python!();
    let Some(allocator) = allocator::ALL[0].find() else { skip!("jemalloc isn't here") };
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("buffers.cc"), folder.path().join("buffers.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let mut compiler = Command::new("c++");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    if !compiler.status().is_ok_and(|status| status.success()) {
        skip!("no C++ compiler");
    }
    let preload = [("LD_PRELOAD", allocator.to_str().unwrap())];
    let library = library.to_str().unwrap();
    let (program, mut target) = start("cpp_buffers", &python, &[library], &preload);
    must_accuse(&program, &traced(&mut target, &[]));
    let (_, mut clean) = start("cpp_buffers", &python, &[library, "--clean"], &preload);
    must_acquit(&traced(&mut clean, &[]));
}

/// Everything goes to the C library.
#[test]
fn python_without_pymalloc() {
    let python = any_python!();
    let (program, mut target) = start("small", &python, &[], &[("PYTHONMALLOC", "malloc")]);
    let report = traced(&mut target, &[]);
    assert_eq!(report["target"]["allocator"], "malloc", "{report:#}");
    must_accuse(&program, &report);
}

#[test]
fn python_with_debug_hooks() {
    let python = any_python!();
    let (program, mut target) = start("large_bytes", &python, &[], &[("PYTHONMALLOC", "debug")]);
    let report = traced(&mut target, &[]);
    assert_eq!(report["target"]["allocator"], "pymalloc behind debug hooks", "{report:#}");
    must_accuse(&program, &report);
}

/// Python's own copy of mimalloc (3.13 and later) is seen through Python's allocator tables.
#[test]
fn python_on_its_own_mimalloc() {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let Some(python) = interpreter::find("py3.13") else { skip!("py3.13 isn't here") };
    let (program, mut target) = start("small", &python, &[], &[("PYTHONMALLOC", "mimalloc")]);
    let report = traced(&mut target, &[]);
    must_accuse(&program, &report);
    drop(target);
    let (_, mut clean) = start("small", &python, &["--clean"], &[("PYTHONMALLOC", "mimalloc")]);
    must_acquit(&traced(&mut clean, &[]));
}

/// A leaktrace that has begun its first burst.
fn probing(target: &Target, args: &[&str]) -> Leaktrace {
    let pid = target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    command.args(["--pid", &pid, "--format", "json"]).args(args);
    let leaktrace = Leaktrace::start(&mut command).unwrap();
    await_probe(target.pid()).unwrap();
    leaktrace
}

/// Traces a program that is told something once it is probed.
fn midway(python: &Interpreter, order: &str) -> (Program, Value) {
    let (program, mut target) = start("midway", python, &[], &[]);
    let leaktrace = probing(&target, &["--duration", "20s"]);
    target.tell(&format!("{order}\n")).unwrap();
    assert_eq!(target.line(Duration::from_secs(20)).unwrap(), "done");
    let report = checked(&leaktrace.wait().unwrap(), &mut target);
    (program, report)
}

#[test]
fn tracemalloc_started_midway() {
    let python = any_python!();
    let (program, report) = midway(&python, "trace");
    let allocator = report["target"]["allocator"].as_str().unwrap();
    assert!(allocator.ends_with("behind tracemalloc"), "{report:#}");
    assert!(says(&report, "tracemalloc"), "{report:#}");
    assert_eq!(report["verdict"], "leak", "{report:#}");
    assert!(program.is_culprit(&report["leaks"][0]["stack"]), "{report:#}");
}

#[test]
fn numpy_imported_midway() {
    let python = any_python!();
    let (program, report) = midway(&python, "import");
    assert_eq!(report["verdict"], "leak", "{report:#}");
    assert!(program.is_culprit(&report["leaks"][0]["stack"]), "{report:#}");
    let leaks = report["leaks"].as_array().unwrap();
    let of_numpy = |leak: &Value| program.is_culprit(&leak["stack"]) && leak["domain"] == "malloc";
    assert!(leaks.iter().any(of_numpy), "{report:#}");
}

#[test]
fn a_malloc_loaded_midway_is_said() {
    let python = any_python!();
    let Some(library) = allocator::ALL[2].find() else { skip!("mimalloc isn't here") };
    let (_, report) = midway(&python, &format!("load {}", library.display()));
    assert!(says(&report, "libmimalloc"), "{report:#}");
}

/// As on kernels where a return probe could make a seccomp filter kill the process.
#[test]
fn without_return_probes() {
    let python = any_python!();
    let (program, mut target) = start("large_bytes", &python, &[], &[]);
    must_accuse(&program, &traced(&mut target, &["--no-return-probes"]));
    let (_, mut clean) = start("large_bytes", &python, &["--clean"], &[]);
    must_acquit(&traced(&mut clean, &["--no-return-probes"]));
}
