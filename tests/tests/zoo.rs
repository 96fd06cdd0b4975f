//! Services of the zoo, where they show more than a verdict. `cargo xtask bench accuracy` observes them all.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::report;
use leak_tests::zoo::{Running, Specimen, Variant};
use serde_json::Value;
use std::collections::HashMap;

fn started(name: &str, python: &Interpreter, variant: Variant) -> (Specimen, Running) {
    let specimen = Specimen::open(name).unwrap();
    let running = specimen.start(python, variant).unwrap();
    (specimen, running)
}

/// The function of its own that a leak's stack leads to first.
fn own_function(leak: &Value) -> &str {
    let stack = leak["stack"].as_array().unwrap();
    let is_own =
        |frame: &&Value| frame["file"].as_str().is_some_and(|file| file.ends_with("/run.py"));
    stack.iter().find(is_own).unwrap()["function"].as_str().unwrap()
}

#[test]
fn lines_of_one_leak_are_one_finding() {
    let python = any_python!();
    let (specimen, running) = started("two_leaks", &python, Variant::Leaking);
    let report = report::judged(running.pid).unwrap();
    let leaks = report["leaks"].as_array().unwrap();
    let mut findings: HashMap<&str, u64> = HashMap::new();
    for leak in leaks {
        assert!(specimen.is_culprit(&leak["stack"]), "{report:#}");
        let finding = leak["finding"].as_u64().unwrap();
        assert_eq!(*findings.entry(own_function(leak)).or_insert(finding), finding, "{report:#}");
    }
    let mut numbers: Vec<u64> = findings.into_values().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2], "{report:#}");
    assert!(leaks.len() > 2, "{report:#}");
}

#[test]
fn a_line_of_a_library_is_shown_with_the_line_that_calls_it() {
    let python = any_python!();
    let (_, running) = started("client_sessions", &python, Variant::Leaking);
    let pid = running.pid.to_string();
    let outcome = leaktrace::run(&["--pid", &pid, "--quiet"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let called = outcome.stdout.lines().find(|line| line.trim_start().starts_with("called at"));
    assert!(called.is_some_and(|line| line.contains("run.py:")), "{}", outcome.stdout);
}

/// The cache fills for 20 s, and 30 are too few to tell whether that was all.
#[test]
fn as_long_as_nothing_can_be_said_it_goes_on() {
    let python = any_python!();
    let (_, running) = started("cache_that_fills", &python, Variant::Clean);
    let pid = running.pid.to_string();
    let outcome = leaktrace::run(&["--pid", &pid, "--format", "json"]).unwrap();
    let report = outcome.report().unwrap();
    assert_eq!(report["verdict"], "no-leak", "{report:#}");
    let observed = report["observed"]["duration_s"].as_f64().unwrap();
    assert!((39.0..62.0).contains(&observed), "{observed} s: {report:#}");
}
