//! `leaktrace heap`: what it counts, against what the program keeps.

mod common;

use leak_tests::interpreter::{self, Interpreter};
use leak_tests::leaktrace;
use leak_tests::program::{self, Program};
use leak_tests::skip;
use leak_tests::target::Target;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Looks at a process that works; `LEAKTRACE_CYCLES` says how many else.
const LOOKS: usize = 5;

fn looks() -> usize {
    let asked = std::env::var("LEAKTRACE_CYCLES").ok().and_then(|asked| asked.parse().ok());
    asked.unwrap_or(LOOKS)
}

fn heap(pid: u32) -> Value {
    let pid = pid.to_string();
    let outcome = leaktrace::run(&["heap", "--pid", &pid, "--format", "json"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.report().unwrap()
}

fn count(heap: &Value, name: &str) -> u64 {
    let types = heap["types"].as_array().unwrap();
    types.iter().filter(|one| one["type"] == name).map(|one| one["count"].as_u64().unwrap()).sum()
}

fn kept_objects_are_counted(python: &Interpreter) {
    let source = program::directory().join("heap.py");
    let mut target = Target::start(python, &source, &[]).unwrap();
    let kept: Value = serde_json::from_str(target.ready()).unwrap();
    for _ in 0..looks() {
        let heap = heap(target.pid());
        assert_eq!(heap["schema"], "leaktrace.heap/1");
        assert_eq!(heap["target"]["pid"], target.pid());
        for (name, kept) in kept.as_object().unwrap() {
            let (found, kept) = (count(&heap, name), kept.as_u64().unwrap());
            // A few more are made and dropped all the time. A pool that was never read whole is counted as lost.
            assert!(
                found <= kept + 3 && found + 3 + kept / 100 >= kept,
                "{name}: {found} of {kept}, {}",
                heap["losses"]
            );
        }
        assert_eq!(heap["gc"].as_array().unwrap().len(), 3);
        assert_eq!(heap["collectors"][0]["enabled"], true);
        assert!(heap["pymalloc"]["live_bytes"].as_u64().unwrap() > 0);
        // Of a process that runs, an object may be read while its size is being written: then it seems larger than memory.
        assert!(heap["losses"]["places_over"].as_u64().unwrap() <= 1, "{}", heap["losses"]);
        for cause in ["unreadable_pools", "implausible", "unnamed_types", "collectors"] {
            assert_eq!(heap["losses"][cause], 0, "{cause}: {}", heap["losses"]);
        }
    }
    assert!(target.ended().unwrap().is_none());
}

for_each_interpreter!(bare: kept_objects_are_counted);

#[test]
fn text_names_the_types() {
    let python = any_python!();
    let source = program::directory().join("heap.py");
    let target = Target::start(&python, &source, &[]).unwrap();
    let pid = target.pid().to_string();
    let outcome = leaktrace::run(&["heap", "--pid", &pid, "--top", "30"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for word in ["__main__.Note", "further types", "pymalloc: ", "Collector: ", "generation 2"] {
        assert!(outcome.stdout.contains(word), "{word}:\n{}", outcome.stdout);
    }
}

fn a_frozen_process_is_counted_exactly(python: &Interpreter) {
    let source = program::directory().join("heap.py");
    let mut target = Target::start(python, &source, &[]).unwrap();
    let kept: Value = serde_json::from_str(target.ready()).unwrap();
    for _ in 0..LOOKS {
        let pid = target.pid().to_string();
        let frozen = ["heap", "--pid", &pid, "--freeze", "--format", "json"];
        let outcome = leaktrace::run(&frozen).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let heap = outcome.report().unwrap();
        assert!(heap["stood_still_s"].as_f64().unwrap() > 0.0);
        for (name, kept) in kept.as_object().unwrap() {
            // Three more may be on their way.
            let (found, kept) = (count(&heap, name), kept.as_u64().unwrap());
            assert!((kept..=kept + 3).contains(&found), "{name}: {found} of {kept}");
        }
        for (cause, lost) in heap["losses"].as_object().unwrap() {
            // The one object that was just joining a list, or the one pool that was just being taken into use.
            let most = u64::from(["lost_links", "torn_pools"].contains(&cause.as_str()));
            assert!(lost.as_u64().unwrap() <= most, "{cause}: {}", heap["losses"]);
        }
    }
    // It runs on.
    assert!(target.ended().unwrap().is_none());
    assert!(!is_stopped(target.pid()));
}

for_each_interpreter!(bare: a_frozen_process_is_counted_exactly);

/// The state of its main thread, by /proc.
fn is_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let state = status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap();
    state.starts_with(['t', 'T'])
}

/// Waits until it stands still, which one that runs on never does.
fn await_stopped(pid: u32) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_stopped(pid) {
        assert!(Instant::now() < until, "process {pid} runs on");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_frozen_process_runs_on_when_leaktrace_is_killed() {
    let python = any_python!();
    let source = program::directory().join("many_objects.py");
    let mut target = Target::start(&python, &source, &["--objects", "1000000"]).unwrap();
    target.ready();
    let mut leaktrace = Command::new(leaktrace::binary().unwrap())
        .args(["heap", "--freeze", "--pid", &target.pid().to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !is_stopped(target.pid()) {
        assert!(leaktrace.try_wait().unwrap().is_none(), "it was never seen to stand still");
    }
    leaktrace.kill().unwrap();
    leaktrace.wait().unwrap();
    assert!(!is_stopped(target.pid()));
    target.tell("count\n").unwrap();
    target.line(Duration::from_secs(60)).unwrap();
}

#[test]
fn no_signal_is_lost_to_a_freeze() {
    let python = any_python!();
    let source = program::directory().join("signalled.py");
    let mut target = Target::start(&python, &source, &[]).unwrap();
    target.ready();
    let pid = target.pid().to_string();
    let frozen = pid.clone();
    let looks = thread::spawn(move || {
        for _ in 0..30 {
            let outcome = leaktrace::run(&["heap", "--freeze", "--pid", &frozen]).unwrap();
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
        }
    });
    let mut sent = 0;
    while !looks.is_finished() {
        for signal in ["USR1", "RTMIN+3"] {
            let kill = Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
            assert!(kill.success());
            assert_eq!(target.line(Duration::from_secs(60)).unwrap().trim(), "got it");
            sent += 1;
        }
    }
    looks.join().unwrap();
    assert!(sent > 10, "{sent}");
}

#[test]
fn a_stopped_process_stays_stopped() {
    let python = any_python!();
    let source = program::directory().join("heap.py");
    let mut target = Target::start(&python, &source, &[]).unwrap();
    let kept: Value = serde_json::from_str(target.ready()).unwrap();
    let pid = target.pid().to_string();
    let send = |signal| Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
    assert!(send("STOP").success());
    await_stopped(target.pid());
    let frozen = ["heap", "--pid", &pid, "--freeze", "--format", "json"];
    let outcome = leaktrace::run(&frozen).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let notes = count(&outcome.report().unwrap(), "__main__.Note");
    assert!(notes >= kept["__main__.Note"].as_u64().unwrap(), "{notes}");
    // Let go of, it passes through the kernel's scheduler once more before it stands still again (ptrace(2)).
    await_stopped(target.pid());
    assert!(send("CONT").success());
    assert!(target.ended().unwrap().is_none());
}

#[test]
fn debug_hooks_are_refused_in_words() {
    let python = any_python!();
    let source = program::directory().join("heap.py");
    let mut command = python.run(&source).unwrap();
    let target = Target::spawn(command.env("PYTHONMALLOC", "debug")).unwrap();
    let outcome = leaktrace::run(&["heap", "--pid", &target.pid().to_string()]).unwrap();
    assert_eq!(outcome.code, Some(4), "{outcome:?}");
    assert!(outcome.stderr.contains("debug hooks"), "{outcome:?}");
}

fn what_grows_is_named(python: &Interpreter) {
    let running = Program::open("small").unwrap().start(python, &["--rate", "500"]).unwrap();
    let pid = running.target.pid().to_string();
    let watch = ["heap", "--pid", &pid, "--watch", "1s", "--duration", "4s", "--format", "json"];
    let outcome = leaktrace::run(&watch).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let looks: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(looks.len() >= 3, "{outcome:?}");
    for (number, look) in (1..).zip(&looks) {
        assert_eq!(look["growth"]["look"], number);
    }
    let last = looks.last().unwrap();
    let grown = last["growth"]["types"].as_array().unwrap();
    let session = grown.iter().find(|one| one["type"] == "__main__.Session").unwrap();
    let kept = session["since_first"].as_f64().unwrap();
    let pace = kept / last["growth"]["since_first_s"].as_f64().unwrap();
    // One a request; what a loaded machine serves of 500 a second is unsure.
    assert!((50.0..=520.0).contains(&pace), "{session}");
    assert_eq!(session["count"].as_u64().unwrap(), count(last, "__main__.Session"));
}

for_each_interpreter!(bare: what_grows_is_named);

#[test]
fn a_watch_ends_with_the_process() {
    let python = any_python!();
    let target = Target::start(&python, &program::directory().join("heap.py"), &[]).unwrap();
    let mut watch = Command::new(leaktrace::binary().unwrap())
        .args(["heap", "--pid", &target.pid().to_string(), "--watch", "1s", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut looks = BufReader::new(watch.stdout.take().unwrap()).lines();
    for number in 1..=2 {
        let look: Value = serde_json::from_str(&looks.next().unwrap().unwrap()).unwrap();
        assert_eq!(look["growth"]["look"], number);
    }
    drop(target);
    assert!(looks.all(|look| look.is_ok()));
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[test]
fn objects_of_a_python_without_a_gil_are_refused_in_words() {
    let Some(python) = interpreter::find("py3.13t") else {
        skip!("py3.13t isn't here; `cargo xtask setup --built` makes it");
    };
    if !skip::is_root() {
        skip!("reading another process needs root");
    }
    let target = Target::start(&python, &program::directory().join("heap.py"), &[]).unwrap();
    let outcome = leaktrace::run(&["heap", "--pid", &target.pid().to_string()]).unwrap();
    assert_eq!(outcome.code, Some(4), "{outcome:?}");
    assert!(outcome.stderr.contains("no GIL"), "{outcome:?}");
}
