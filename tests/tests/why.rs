//! `leaktrace heap --why`: the chains that a Python programmer would point at.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program;
use leak_tests::target::Target;
use serde_json::Value;
use std::collections::BTreeMap;

fn why(pid: u32, wanted: &str, more: &[&str]) -> Value {
    let pid = pid.to_string();
    let args = ["heap", "--pid", &pid, "--why", wanted, "--format", "json"];
    let outcome = leaktrace::run(&[args.as_slice(), more].concat()).unwrap();
    assert_eq!(outcome.code, Some(0), "{wanted}: {outcome:?}");
    outcome.report().unwrap()
}

fn words(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Is it what the pattern says? A `*` stands for anything.
fn fits(word: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => word == pattern,
        Some((before, after)) => word.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| fits(rest, after))
        }),
    }
}

fn path_fits(path: &[String], truth: &[String]) -> bool {
    let same = |path: &[String], truth: &[String]| {
        path.len() == truth.len() && path.iter().zip(truth).all(|(word, one)| fits(word, one))
    };
    match truth.iter().position(|word| word == "…") {
        None => same(path, truth),
        Some(at) => {
            let (before, after) = (&truth[..at], &truth[at + 1..]);
            path.len() > before.len() + after.len()
                && same(&path[..at], before)
                && same(&path[path.len() - after.len()..], after)
        }
    }
}

fn each_way_of_keeping_is_named(python: &Interpreter) {
    must_name(python, "retained.py", "app", 20);
}

fn objects_in_arrays_are_found(python: &Interpreter) {
    must_name(python, "arrays.py", "__main__", 3);
}

/// A program says how it keeps objects of so many classes or more of a module; leaktrace must say the same.
fn must_name(python: &Interpreter, program: &str, module: &str, classes: usize) {
    let source = program::directory().join(program);
    let mut target = Target::start(python, &source, &[]).unwrap();
    // By class: the words of the chain, of which a `*` stands for anything, and `…` for any words; and a word of the cycle
    // that holds its objects.
    let said: Value = serde_json::from_str(target.ready()).unwrap();
    let truth: BTreeMap<String, Vec<String>> =
        serde_json::from_value(said["truth"].clone()).unwrap();
    let cycles: BTreeMap<String, String> = serde_json::from_value(said["cycles"].clone()).unwrap();
    assert!(truth.len() >= classes, "{}", truth.len());
    for (class, truth) in &truth {
        let heap = why(target.pid(), &format!("{module}.{class}"), &[]);
        let found = &heap["why"];
        assert_eq!(found["type"], format!("{module}.{class}"));
        assert_eq!(found["unheld"], 0, "{class}: {found:#}");
        let groups = found["groups"].as_array().unwrap();
        let path = words(&groups[0]["path"]);
        assert!(path_fits(&path, truth), "{class}: {path:?}, not {truth:?}");
        // What an extension's types refer to is never certain.
        let through_extension = truth.iter().any(|word| word == "…");
        assert!(groups[0]["maybe"] == false || through_extension, "{class}: {path:?}");
        assert_eq!(heap["paths"][0], groups[0]["path"]);
        // One or two may be in a variable that goes over them, too.
        let (held, all) =
            (groups[0]["samples"].as_u64().unwrap(), found["samples"].as_u64().unwrap());
        assert!(held + 2 >= all, "{class}: {held} of {all}");
        let holder = &found["holder"];
        assert!(holder["samples"].as_u64().unwrap() >= held, "{class}: {holder}");
        let holder = words(&holder["path"]);
        assert_eq!(holder[..2], path[..2], "{class}: {holder:?}");
    }
    for (class, word) in &cycles {
        let found = &why(target.pid(), class, &[])["why"];
        assert_eq!(found["in_cycles"], found["samples"], "{class}: {found:#}");
        let cycles: Vec<Vec<String>> = serde_json::from_value(found["cycles"].clone()).unwrap();
        assert_eq!(cycles.len(), 1, "{class}: {cycles:?}");
        assert!(cycles[0].contains(word), "{class}: {cycles:?} without {word}");
    }
    assert!(target.ended().unwrap().is_none());
}

for_each_interpreter!(bare: each_way_of_keeping_is_named);
for_each_interpreter!(objects_in_arrays_are_found);

/// The program that keeps objects in many ways.
fn retained(python: &Interpreter) -> Target {
    let source = program::directory().join("retained.py");
    let target = Target::start(python, &source, &[]).unwrap();
    target.ready();
    target
}

#[test]
fn one_object_is_explained_by_its_address() {
    let python = any_python!();
    let target = retained(&python);
    let of_type = why(target.pid(), "app.InDict", &["--samples", "3"]);
    let found = &of_type["why"];
    assert_eq!((found["samples"].as_u64(), found["count"].as_u64()), (Some(3), Some(30)));
    let object = found["groups"][0]["object"].as_u64().unwrap();
    let one = why(target.pid(), &format!("0x{object:x}"), &["--freeze"]);
    assert_eq!(one["why"]["groups"][0]["path"], found["groups"][0]["path"]);
    assert!(one["stood_still_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn text_says_it_in_words() {
    let python = any_python!();
    let target = retained(&python);
    let pid = target.pid().to_string();
    let text = |wanted: &str| {
        let outcome = leaktrace::run(&["heap", "--pid", &pid, "--why", wanted]).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    let held = text("InDict");
    for part in [
        "Who keeps app.InDict alive in process",
        "100 % hang from module app → app.cache (builtins.dict)",
        "  module app → app.cache → dict['user-",
    ] {
        assert!(held.contains(part), "{part}:\n{held}");
    }
    let unheld = text("app.InCycle");
    for part in ["the collector is off", "  InCycle.other → InCycle.other → app.InCycle"] {
        assert!(unheld.contains(part), "{part}:\n{unheld}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let python = any_python!();
    let target = retained(&python);
    let pid = target.pid().to_string();
    for (wanted, word) in [
        ("app.Nothing", "no object of type app.Nothing"),
        ("app.InAtribute", "there are app.InAttribute"),
        ("0x10", "no object at 0x10"),
    ] {
        let outcome = leaktrace::run(&["heap", "--pid", &pid, "--why", wanted]).unwrap();
        assert_eq!(outcome.code, Some(4), "{outcome:?}");
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }
}

#[test]
fn chains_are_drawn() {
    let python = any_python!();
    let target = retained(&python);
    let pid = target.pid().to_string();
    for (form, parts) in [
        ("dot", ["digraph kept {", "label = \"app.service\""]),
        ("svg", ["<svg", "app.InAttribute (100 %)"]),
    ] {
        let args = ["heap", "--pid", &pid, "--why", "app.InAttribute", "--format", form];
        let outcome = leaktrace::run(&args).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        for part in parts {
            assert!(outcome.stdout.contains(part), "{part}:\n{}", outcome.stdout);
        }
    }
}
