//! Stacks: those of `leaktrace dump` and those that the kernel side walks, against what the interpreter
//! itself says.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::{self, is_function};
use leak_tests::py_spy;
use leak_tests::skip;
use leak_tests::stacks::{self, Comparison, Possible};
use leak_tests::target::Target;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Dumps of threads that run.
const DUMPS: usize = 30;
/// How long the zoo is observed.
const SECONDS: u32 = 5;

fn must_be_whole(comparison: &Comparison) {
    assert!(
        comparison.is_whole(),
        "{} frames\n{}",
        comparison.counts(),
        comparison.differences.join("\n")
    );
}

fn a_dump_is_what_the_interpreter_says(python: &Interpreter) {
    let (target, truth) = stacks::start(python, "stacks.py").unwrap();
    let dump = stacks::dump(target.pid()).unwrap();
    assert_eq!(dump["schema"], "leaktrace.dump/1");
    assert_eq!(dump["target"]["pid"], target.pid());
    must_be_whole(&stacks::compare_dump(&truth, &dump));
    for (cause, count) in dump["losses"].as_object().unwrap() {
        assert_eq!(count, 0, "{cause}: {dump:#}");
    }
    // All wait, and whoever waits lets go of the GIL.
    for thread in dump["threads"].as_array().unwrap() {
        assert_eq!(thread["holds_gil"], false, "{thread:#}");
        let comm = format!("/proc/{}/task/{}/comm", target.pid(), thread["tid"]);
        assert_eq!(thread["name"], fs::read_to_string(comm).unwrap().trim_end());
    }
}

fn other_interpreters_are_dumped_too(python: &Interpreter) {
    let (target, truth) = stacks::start(python, "subinterpreters.py").unwrap();
    let dump = stacks::dump(target.pid()).unwrap();
    let mut comparison = stacks::compare_dump(&truth, &dump);
    // The main thread says nothing of itself.
    let main = u64::from(target.pid());
    let about_main = format!("\"tid\":{main}}}");
    comparison.differences.retain(|difference| !difference.contains(&about_main));
    must_be_whole(&comparison);
    let main = dump["threads"].as_array().unwrap().iter().filter(|entry| entry["tid"] == main);
    assert_eq!(main.count(), 1, "{dump:#}");
}

fn the_kernel_walks_what_the_interpreter_says(python: &Interpreter) {
    let (mut target, truth) = stacks::start(python, "stacks.py").unwrap();
    let report = stacks::observe_mappings(&mut target, SECONDS).unwrap();
    must_be_whole(&stacks::compare_sites(&truth, &report));
}

fn threads_that_run_have_possible_stacks(python: &Interpreter) {
    let possible = Possible::open("busy_stacks.py").unwrap();
    let source = program::directory().join("busy_stacks.py");
    let target = Target::start(python, &source, &[]).unwrap();
    let (mut whole, mut in_part) = (0, 0);
    for _ in 0..DUMPS {
        let dump = stacks::dump(target.pid()).unwrap();
        for thread in dump["threads"].as_array().unwrap() {
            // Of one that isn't whole, the outer frames are given.
            let contradiction = possible.contradiction(&stacks::frames(&thread["stack"]));
            assert_eq!(contradiction, None, "{thread:#}");
            *(if stacks::is_whole(thread) { &mut whole } else { &mut in_part }) += 1;
        }
        assert_eq!(dump["losses"]["unresolved_frames"], 0, "{dump:#}");
        assert_eq!(dump["losses"]["stacks_unreadable"], 0, "{dump:#}");
    }
    // The main thread waits; of the others, one runs and two wait for the GIL.
    assert!(whole > DUMPS, "{whole} stacks were read whole, {in_part} in part");
}

fn compiled_code_is_put_around_pythons(python: &Interpreter) {
    let (target, truth) = stacks::start(python, "stacks.py").unwrap();
    let dump = stacks::dump_native(target.pid()).unwrap();
    must_be_whole(&stacks::compare_dump(&truth, &dump));
    assert_eq!(dump["losses"]["native_stacks_missing"], 0, "{dump:#}");
    for thread in dump["threads"].as_array().unwrap() {
        let frames = thread["stack"].as_array().unwrap();
        // All wait in the C library, which has started them.
        for end in [frames.first(), frames.last()] {
            assert_eq!(end.unwrap()["kind"], "native", "{thread:#}");
        }
        let the_loop = |frame: &Value| is_function(frame, "_PyEval_EvalFrameDefault");
        assert!(!frames.iter().any(the_loop), "{thread:#}");
    }
    let of = |kind: &str| {
        let tid = truth.iter().find(|thread| thread.kind == kind).unwrap().tid;
        dump["threads"].as_array().unwrap().iter().find(|thread| thread["tid"] == tid).unwrap()
    };
    // What sorts is C code that Python's calls and that calls Python's.
    let sorted = of("called_by_sorted")["stack"].as_array().unwrap();
    let is_python = |frame: &Value| frame["kind"] == "python";
    let (first, last) = (sorted.iter().position(is_python), sorted.iter().rposition(is_python));
    let between = &sorted[first.unwrap()..last.unwrap()];
    assert!(!between.iter().all(is_python), "{sorted:#?}");
}

/// py-spy stops the process to read registers; what it says then is in ours.
fn py_spy_shows_no_other_frames(python: &Interpreter) {
    if py_spy::find().is_none() {
        skip!("py-spy isn't here; `cargo xtask setup` installs it");
    }
    if py_spy::NOT_FOUND.contains(&python.name) {
        skip!("py-spy does not find the interpreter's loop in this build");
    }
    let (target, _) = stacks::start_with(python, "stacks.py", &py_spy::NOT_MERGED).unwrap();
    let ours = stacks::dump_native(target.pid()).unwrap();
    let theirs = py_spy::dump_native(target.pid()).unwrap();
    must_be_whole(&py_spy::compare_native(&ours["threads"], &theirs));
}

fn who_holds_the_gil(python: &Interpreter) {
    let target = Target::start(python, &program::directory().join("gil.py"), &[]).unwrap();
    let holder: u64 = target.ready().parse().unwrap();
    let give_up = Instant::now() + Duration::from_secs(20);
    // It said so just before it took hold of it for good.
    let dump = loop {
        let dump = stacks::dump(target.pid()).unwrap();
        let held = |thread: &Value| thread["holds_gil"] == true;
        if dump["threads"].as_array().unwrap().iter().any(held) {
            break dump;
        }
        assert!(Instant::now() < give_up, "nobody holds the GIL: {dump:#}");
    };
    for thread in dump["threads"].as_array().unwrap() {
        assert_eq!(thread["holds_gil"], thread["tid"] == holder, "{dump:#}");
    }
}

for_each_interpreter!(
    stacks: a_dump_is_what_the_interpreter_says,
    other_interpreters_are_dumped_too,
    threads_that_run_have_possible_stacks,
    the_kernel_walks_what_the_interpreter_says,
);

for_each_interpreter!(
    bare: who_holds_the_gil,
    compiled_code_is_put_around_pythons,
    py_spy_shows_no_other_frames,
);

/// The ids are ours, not those by which the process knows its threads.
#[test]
fn a_process_in_another_pid_namespace() {
    let python = any_python!();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(&python.path).arg(program::directory().join("stacks.py"));
    let target = Target::spawn(&mut command).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", target.pid());
    let pid: u32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let truth = stacks::truth(&target, pid).unwrap();
    assert!(truth.iter().any(|thread| thread.tid == u64::from(pid)), "{pid}: {truth:?}");
    must_be_whole(&stacks::compare_dump(&truth, &stacks::dump(pid).unwrap()));
}

#[test]
fn as_text_in_the_form_of_faulthandler() {
    let python = any_python!();
    let (target, truth) = stacks::start(&python, "stacks.py").unwrap();
    let pid = target.pid().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dump.txt");
    let arguments = ["dump", "--pid", &pid, "-o", file.to_str().unwrap()];
    let outcome = leaktrace::run(&arguments).unwrap();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");
    let text = fs::read_to_string(file).unwrap();
    let heads = text.lines().filter(|line| line.starts_with("Thread 0x"));
    assert_eq!(heads.count(), truth.len(), "{text}");
    for thread in truth {
        let frames: Vec<String> = thread
            .stack
            .iter()
            .map(|(function, file, line)| format!("  File \"{file}\", line {line} in {function}\n"))
            .collect();
        assert!(text.contains(&frames.concat()), "{}: {text}", thread.kind);
    }
}

#[test]
fn what_has_no_stacks_is_refused() {
    if !skip::is_root() {
        skip!("reading another process needs root");
    }
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = sleep.id().to_string();
    let refused = leaktrace::run(&["dump", "--pid", &pid]);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let refused = refused.unwrap();
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("not CPython") && refused.stdout.is_empty(), "{refused:?}");
    let gone = leaktrace::run(&["dump", "--pid", &pid]).unwrap();
    assert_eq!(gone.code, Some(4), "{gone:?}");
    assert!(gone.stderr.contains("no process"), "{gone:?}");
    for wrong in [&["dump"][..], &["dump", "--pid", "1", "--duration", "3s"]] {
        assert_eq!(leaktrace::run(wrong).unwrap().code, Some(2));
    }
}
