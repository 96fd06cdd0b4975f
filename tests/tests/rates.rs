//! `leaktrace heap --watch --rates`: what is allocated a second, against what the program itself counts.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program;
use leak_tests::skip;
use leak_tests::target::Target;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Types that the program churns.
const CHURNED: [&str; 3] = ["__main__.Token", "__main__.Point", "builtins.bytearray"];

/// Samples of the rarer of two types by which their proportion is told: four standard deviations are less than a fifth.
const ENOUGH: u64 = 600;

/// Samples that a type has by now.
fn samples(found: &Value, name: &str) -> u64 {
    let mut types = found["types"].as_array().into_iter().flatten();
    types.find(|one| one["type"] == name).and_then(|one| one["samples"].as_u64()).unwrap_or(0)
}

/// What the program has made so far.
fn made(target: &mut Target) -> Value {
    target.tell("count\n").unwrap();
    serde_json::from_str(&target.line(Duration::from_secs(60)).unwrap()).unwrap()
}

fn what_is_allocated_is_told(python: &Interpreter) {
    let source = program::directory().join("churning.py");
    let mut target = Target::start(python, &source, &[]).unwrap();
    let before = made(&mut target);
    let mut watch = Command::new(leaktrace::binary().unwrap())
        .args(["heap", "--pid", &target.pid().to_string(), "--format", "json"])
        .args(["--watch", "2s", "--duration", "2m", "--rates", "--overhead", "10%"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let looks = BufReader::new(watch.stdout.take().unwrap()).lines();
    let looks = looks.map(|look| serde_json::from_str::<Value>(&look.unwrap()).unwrap());
    let mut found = Value::Null;
    for look in looks {
        found = look["allocations"].clone();
        let inlined = found["unknown"].as_str().is_some_and(|why| why.contains("no probe sees"));
        let error = found["error_per_s"].as_f64().zip(found["per_s"].as_f64());
        let is_sure = error.is_some_and(|(error, per_s)| error < 0.2 * per_s);
        if inlined || (is_sure && samples(&found, "__main__.Point") >= ENOUGH) {
            break;
        }
    }
    let after = made(&mut target);
    // It goes on when leaktrace is killed in the midst of it.
    watch.kill().unwrap();
    watch.wait().unwrap();
    let later = made(&mut target);
    assert!(later["Token"].as_u64() > after["Token"].as_u64(), "{after} {later}");
    if found["unknown"].as_str().is_some_and(|why| why.contains("refused")) {
        skip!("this machine has no data breakpoints: {found}");
    }
    if !found["unknown"].is_null() {
        // Builds that copy pymalloc all over their code can't be asked.
        assert!(found["unknown"].as_str().unwrap().contains("no probe sees"), "{found}");
        assert!(python.name.starts_with("debian") || python.name.starts_with("shared"), "{found}");
        return;
    }
    let seconds = |counts: &Value| counts["seconds"].as_f64().unwrap();
    let passed = seconds(&after) - seconds(&before);
    let truth = |name: &str| {
        let counted = |counts: &Value| counts[name.split('.').nth(1).unwrap()].as_f64().unwrap();
        (counted(&after) - counted(&before)) / passed
    };
    let types = found["types"].as_array().unwrap();
    let told = |name: &str| {
        let one = types.iter().find(|one| one["type"] == name);
        one.unwrap_or_else(|| panic!("no {name}: {found}"))["per_s"].as_f64().unwrap()
    };
    // As sure as is said; beside it, a loaded machine runs slower in one second than in another.
    let error = found["error_per_s"].as_f64().unwrap() / found["per_s"].as_f64().unwrap();
    let most = 1.5 + 3.0 * error;
    for name in CHURNED {
        let ratio = told(name) / truth(name);
        assert!((most.recip()..most).contains(&ratio), "{name} {ratio}: {found}");
    }
    // In what proportion, better.
    let points = told("__main__.Token") / told("__main__.Point");
    assert!((1.6..2.4).contains(&points), "{points}: {found}");
    // What stays is seen by how it grows.
    let kept = told("__main__.Kept") / truth("__main__.Kept");
    assert!((0.6..1.6).contains(&kept), "{kept}: {found}");
}

for_each_interpreter!(bare: what_is_allocated_is_told);

#[test]
fn a_process_that_is_killed_ends_the_rates() {
    let python = any_python!();
    let source = program::directory().join("churning.py");
    let target = Target::start(&python, &source, &[]).unwrap();
    let mut watch = Command::new(leaktrace::binary().unwrap())
        .args(["heap", "--pid", &target.pid().to_string(), "--watch", "1s", "--rates"])
        .args(["--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut looks = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(looks.next().unwrap().is_ok() && looks.next().unwrap().is_ok());
    drop(target);
    assert!(looks.all(|look| look.is_ok()));
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}
