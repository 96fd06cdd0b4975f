//! `--children`: what leaktrace says of a process tree, and what the tree notices of it.

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Leaktrace};
use leak_tests::maps::{altered_code, await_probe};
use leak_tests::program::{self, Program};
use leak_tests::skip;
use leak_tests::target::Target;
use nix::sys::signal::Signal;
use serde_json::Value;

fn start(python: &Interpreter, name: &str, args: &[&str]) -> Target {
    Target::start(python, &program::directory().join(name), args).unwrap()
}

/// Observes a tree; the report.
fn observe(root: u32, seconds: u32) -> Value {
    let outcome = leaktrace::observe_with(root, seconds, &["--children"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.report().unwrap()
}

/// Observes a tree for as long as is usual; the report.
fn observe_as_usual(root: u32) -> Value {
    let args = ["--pid", &root.to_string(), "--children", "--format", "json"];
    let outcome = leaktrace::run(&args).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.report().unwrap()
}

/// Each process that was seen is attached, or counted by one cause.
fn must_add_up(tree: &Value) {
    let causes = tree["not_attached"].as_object().unwrap().values();
    let not_attached: u64 = causes.map(|count| count.as_u64().unwrap()).sum();
    let (seen, attached) = (tree["seen"].as_u64().unwrap(), tree["attached"].as_u64().unwrap());
    assert_eq!(seen, attached + not_attached, "{tree:#}");
}

/// The one that leaks is named, with its line and its id, and no other process is accused.
fn must_accuse_only(report: &Value, program: &str, leaking: u32) {
    let program = Program::open(program).unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    let leaks = report["leaks"].as_array().unwrap();
    for leak in leaks {
        assert_eq!(leak["pid"], leaking, "{report:#}");
    }
    assert!(program.is_culprit(&leaks[0]["stack"]), "{report:#}");
    let tree = &report["tree"];
    for member in tree["members"].as_array().unwrap() {
        // Of the others it may be open, on a busy machine: what counts is that none is accused.
        assert_eq!(member["pid"] == leaking, member["verdict"] == "leak", "{report:#}");
    }
    must_add_up(tree);
}

fn a_leak_in_a_worker(python: &Interpreter, how: &str) {
    if python.name != "py3.11" && !skip::is_all() {
        skip!("run on py3.11 alone without --all");
    }
    if python.name.starts_with("debian") {
        skip!(
            "too few bursts see a leak of this pace where size classes are watched: inconclusive"
        );
    }
    if how == "os.fork" && !skip::is_all() {
        skip!("left out without --all");
    }
    if skip::is_fast() && how != "fork" {
        skip!("left out by --fast");
    }
    let target = start(python, "workers.py", &["--how", how]);
    let leaking: u32 = target.ready().parse().unwrap();
    assert_ne!(leaking, target.pid());
    // Four processes share the cores, so that a burst sees half a request of each.
    let report = observe_as_usual(target.pid());
    must_accuse_only(&report, "small", leaking);
    assert_eq!(report["target"]["pid"], target.pid(), "{report:#}");
    let processes = report["processes"].as_array().unwrap();
    let its = processes.iter().find(|process| process["pid"] == leaking).unwrap();
    assert_eq!(its["target"]["pid"], leaking, "{report:#}");
    assert!(its["cmdline"].is_array() && its["parent"].is_u64(), "{its:#}");
}

fn a_worker_of_the_bare_fork(python: &Interpreter) {
    a_leak_in_a_worker(python, "os.fork");
}

fn a_forked_worker(python: &Interpreter) {
    a_leak_in_a_worker(python, "fork");
}

fn a_spawned_worker(python: &Interpreter) {
    a_leak_in_a_worker(python, "spawn");
}

fn a_worker_of_the_forkserver(python: &Interpreter) {
    a_leak_in_a_worker(python, "forkserver");
}

fn a_grandchild(python: &Interpreter) {
    a_leak_in_a_worker(python, "grandchild");
}

for_each_interpreter!(
    a_worker_of_the_bare_fork,
    a_forked_worker,
    a_spawned_worker,
    a_worker_of_the_forkserver,
    a_grandchild,
);

/// Its results outlive it.
#[test]
fn a_worker_that_ends_before_the_report_is_accused() {
    let python = any_python!();
    let target = start(&python, "workers.py", &["--how", "fork", "--seconds", "32", "--texts"]);
    let leaking: u32 = target.ready().parse().unwrap();
    let report = observe(target.pid(), 40);
    must_accuse_only(&report, "workers", leaking);
    let processes = report["processes"].as_array().unwrap();
    let its = processes.iter().find(|process| process["pid"] == leaking).unwrap();
    assert!(its["ended_ns"].is_u64() && its["target"]["ended"] == true, "{its:#}");
    let types = its["leaks"][0]["types"].as_array().unwrap();
    assert!(!types.is_empty(), "its types went with it: {its:#}");
}

#[test]
fn without_being_asked_children_are_not_followed_but_mentioned() {
    let python = any_python!();
    let target = start(&python, "workers.py", &["--how", "fork"]);
    let report = leaktrace::observe(target.pid(), 8).unwrap().report().unwrap();
    assert_ne!(report["verdict"], "leak", "{report:#}");
    let unseen = report["unseen"].to_string();
    assert!(unseen.contains("2 child processes (--children follows them)"), "{unseen}");
    assert!(report["tree"].is_null() && report["processes"].is_null(), "{report:#}");
}

#[test]
fn a_leak_in_a_child_fails_the_run_when_asked() {
    let python = any_python!();
    let target = start(&python, "workers.py", &["--how", "fork", "--workers", "3"]);
    let pid = target.pid().to_string();
    // Four are attached one after the other, and each of the three must be seen for long enough by itself.
    let args = ["--pid", &pid, "--children", "--duration", "45s", "--fail-on-leak"];
    let outcome = leaktrace::run(&args).unwrap();
    assert_eq!(outcome.code, Some(10), "{outcome:?}");
    // The same line in all workers is said once.
    let said = outcome.stdout.matches("3 of 4 processes: ").count();
    assert!((1..=3).contains(&said), "{}", outcome.stdout);
}

/// Ends the computation and compares it with one that was never traced.
fn must_equal_its_twin(python: &Interpreter, mut target: Target) {
    target.tell("stop\n").unwrap();
    let traced: Value =
        serde_json::from_str(&target.line(Duration::from_secs(60)).unwrap()).unwrap();
    let rounds: Vec<String> =
        traced["rounds"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert!(rounds.iter().all(|rounds| rounds != "0"), "{traced}");
    let mut twin = start(python, "result_tree.py", &["--rounds", &rounds.join(",")]);
    let untraced: Value =
        serde_json::from_str(&twin.line(Duration::from_secs(600)).unwrap()).unwrap();
    assert_eq!(traced, untraced);
}

#[test]
fn results_are_those_of_an_untraced_twin() {
    let python = any_python!();
    let target = start(&python, "result_tree.py", &[]);
    let report = observe(target.pid(), 15);
    // The tree: itself, three children, and what multiprocessing runs beside them.
    assert!(report["tree"]["attached"].as_u64().unwrap() >= 4, "{:#}", report["tree"]);
    must_add_up(&report["tree"]);
    must_equal_its_twin(&python, target);
}

/// No breakpoint may stay behind in any of them.
fn must_be_unprobed(pids: &[u32]) {
    let give_up = Instant::now() + Duration::from_secs(5);
    for pid in pids {
        loop {
            let altered = altered_code(*pid).unwrap();
            if altered.is_empty() {
                break;
            }
            assert!(Instant::now() < give_up, "still in {pid}:\n{}", altered.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_killed_leaktrace_leaves_nothing_in_any_of_them() {
    let python = any_python!();
    let target = start(&python, "result_tree.py", &[]);
    let mut pids = vec![target.pid()];
    pids.extend(target.ready().split(' ').map(|pid| pid.parse::<u32>().unwrap()));
    for milliseconds in [5, 100] {
        let pid = target.pid().to_string();
        let mut command = Command::new(leaktrace::binary().unwrap());
        let args = ["--pid", &pid, "--children", "--duration", "60s"];
        let leaktrace = Leaktrace::start(command.args(args)).unwrap();
        // Once each of them has been probed, several sessions are at work.
        for pid in &pids {
            await_probe(*pid).unwrap();
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        leaktrace.signal(Signal::SIGKILL).unwrap();
        let outcome = leaktrace.wait().unwrap();
        assert_eq!(outcome.code, None, "it ended by itself: {outcome:?}");
        must_be_unprobed(&pids);
    }
    must_equal_its_twin(&python, target);
}

/// Many processes that live shortly, and one that replaces its program in a loop: nobody is lost who is not
/// counted, and leaktrace doesn't grow by those that have ended.
#[test]
fn many_short_lives_are_all_counted() {
    let python = any_python!();
    let births = if skip::is_all() { 500 } else { 200 };
    let count = births.to_string();
    let spread = if skip::is_all() { "60" } else { "16" };
    let mut target = start(&python, "births.py", &["--births", &count, "--seconds", spread]);
    let pid = target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    let args = ["--pid", &pid, "--children", "--duration", "120s", "--format", "json"];
    let leaktrace = Leaktrace::start(command.args(args)).unwrap();
    // The root is observed: from here on nobody can be born unseen.
    await_probe(target.pid()).unwrap();
    target.tell("go\n").unwrap();
    let half = spread.parse::<u64>().unwrap() / 2;
    std::thread::sleep(Duration::from_secs(half));
    let before = leaktrace.resident().unwrap();
    let said: Value =
        serde_json::from_str(&target.line(Duration::from_secs(100)).unwrap()).unwrap();
    let after = leaktrace.resident().unwrap();
    leaktrace.signal(Signal::SIGINT).unwrap();
    let report = leaktrace.wait().unwrap().report().unwrap();
    let tree = &report["tree"];
    must_add_up(tree);
    assert_eq!(tree["born"], said["made"], "{tree:#}");
    assert_eq!(tree["seen"].as_u64().unwrap(), said["made"].as_u64().unwrap() + 1, "{tree:#}");
    assert!(tree["replaced"].as_u64().unwrap() >= 20 + births / 10, "{tree:#}");
    let others = tree["others"].to_string();
    assert!(others.contains("\"true\""), "{tree:#}");
    assert!(
        after < before + (16 << 20),
        "leaktrace grew from {before} to {after} bytes while processes came and went"
    );
    // All ended as they do untraced.
    assert_eq!(said["replaced"], 9, "{said}");
    let mut twin = start(&python, "births.py", &["--births", &count]);
    twin.tell("go\n").unwrap();
    let untraced: Value =
        serde_json::from_str(&twin.line(Duration::from_secs(100)).unwrap()).unwrap();
    assert_eq!(said, untraced);
}

#[test]
fn what_is_not_python_is_listed_and_no_error() {
    let python = any_python!();
    let mut command = Command::new(&python.path);
    let script = "import subprocess, time\n\
                  child = subprocess.Popen(['sleep', '60'])\n\
                  print('ready', child.pid, flush=True)\n\
                  time.sleep(60)\n";
    let target = Target::spawn(command.args(["-c", script])).unwrap();
    let child: u32 = target.ready().parse().unwrap();
    let report = observe(target.pid(), 5);
    let tree = &report["tree"];
    assert_eq!(tree["not_attached"]["not_python"], 1, "{tree:#}");
    let others = tree["others"].as_array().unwrap();
    assert_eq!(others[0]["program"], "sleep", "{tree:#}");
    assert_eq!((&others[0]["pid"], &others[0]["cause"]), (&child.into(), &"not_python".into()));
    must_add_up(tree);
    // It was never theirs to end.
    assert!(fs::exists(format!("/proc/{child}")).unwrap());
}
