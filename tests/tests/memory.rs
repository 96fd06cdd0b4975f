//! Where a process's memory is: parts that add up to what is resident, and say what it is.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program;
use leak_tests::target::Target;
use serde_json::Value;

/// Blocks of 1,000 bytes that the fragmented service has freed, as chunks.
const HOLES: u64 = 50_000;
const CHUNK: u64 = 1008;

fn heap(python: &Interpreter, kind: &str) -> (Target, Value) {
    let target =
        Target::start(python, &program::directory().join("holds.py"), &["--kind", kind]).unwrap();
    let pid = target.pid().to_string();
    let outcome = leaktrace::run(&["heap", "--pid", &pid, "--format", "json"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let heap = outcome.report().unwrap();
    let split = heap["split"].as_object().unwrap();
    let sum: u64 = split.values().map(|part| part.as_u64().unwrap()).sum();
    let rss = heap["rss_bytes"].as_u64().unwrap();
    assert!(sum.abs_diff(rss) * 50 <= rss, "{kind}: {sum} of {rss}: {heap:#}");
    (target, heap)
}

/// A part of what is resident, 0 to 1.
fn share(heap: &Value, parts: &[&str]) -> f64 {
    let of = |part: &&str| heap["split"][part].as_u64().unwrap();
    parts.iter().map(of).sum::<u64>() as f64 / heap["rss_bytes"].as_u64().unwrap() as f64
}

fn small_objects_are_told(python: &Interpreter) {
    let (_target, heap) = heap(python, "pymalloc");
    assert!(share(&heap, &["python_live"]) > 0.6, "{:#}", heap["split"]);
}

fn kept_arenas_are_told(python: &Interpreter) {
    let (_target, heap) = heap(python, "burst");
    assert!(share(&heap, &["held_free", "fragmentation"]) > 0.6, "{:#}", heap["split"]);
}

fn holes_are_told_and_not_accused(python: &Interpreter) {
    let (mut target, heap) = heap(python, "fragmented");
    let c_heap = &heap["c_heap"];
    let (free, chunks) = (&c_heap["free_bytes"], &c_heap["free_chunks"]);
    let (free, chunks) = (free.as_u64().unwrap(), chunks.as_u64().unwrap());
    assert!(chunks.abs_diff(HOLES) < HOLES / 50, "{c_heap}");
    assert!(free.abs_diff(HOLES * CHUNK) < HOLES * CHUNK / 20, "{c_heap}");
    assert_eq!(c_heap["unknown_bytes"], 0, "{c_heap}");
    let outcome = leaktrace::observe(target.pid(), 10).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.report().unwrap();
    assert_eq!(report["leaks"], Value::Array(Vec::new()), "{report:#}");
    assert_ne!(report["verdict"], "leak");
    let told = report["memory"]["c_heap"]["free_bytes"].as_u64().unwrap();
    assert!(told.abs_diff(HOLES * CHUNK) < HOLES * CHUNK / 20, "{}", report["memory"]);
    assert!(target.ended().unwrap().is_none());
}

fn arrays_are_told(python: &Interpreter) {
    let (_target, heap) = heap(python, "numpy");
    assert!(share(&heap, &["unattributed"]) > 0.6, "{:#}", heap["split"]);
}

for_each_interpreter!(bare: small_objects_are_told);
for_each_interpreter!(bare: kept_arenas_are_told);
for_each_interpreter!(holes_are_told_and_not_accused);
for_each_interpreter!(arrays_are_told);
