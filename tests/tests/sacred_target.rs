//! The target gets the results and the memory of an untraced twin, whatever happens to leaktrace.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Leaktrace};
use leak_tests::maps::{altered_code, await_probe, lost_uprobes};
use leak_tests::skip;
use leak_tests::target::Target;
use leak_tests::twin;
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

fn start(python: &Interpreter) -> Target {
    twin::start(python, &[]).unwrap()
}

fn must_equal_its_twin(python: &Interpreter, target: Target) {
    let differences = twin::differences(python, target).unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// No breakpoint may stay behind. The kernel takes those of a dead tracer out within moments.
fn must_be_unprobed(target: &Target) {
    let give_up = Instant::now() + Duration::from_secs(5);
    loop {
        let altered = altered_code(target.pid()).unwrap();
        if altered.is_empty() {
            return;
        }
        assert!(Instant::now() < give_up, "still there:\n{}", altered.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ways to attach: by links to many points, as where the kernel can; one by one, as on older kernels.
const WAYS: [&[&str]; 2] = [&[], &["--one-by-one"]];

/// What a build is attached to by, where not all is asked for: both on one build, else one of the two.
fn ways(python: &Interpreter) -> &'static [&'static [&'static str]] {
    match python.name {
        "py3.11" => &WAYS,
        _ if skip::is_all() => &WAYS,
        name if name.starts_with("py") => &WAYS[..1],
        _ => &WAYS[1..],
    }
}

/// Builds whose like is among the others.
fn is_left_out(python: &Interpreter) -> bool {
    let like_others = ["py3.9", "py3.10", "debian3.9", "debian3.13", "debian3.14", "shared3.15"];
    like_others.contains(&python.name) && !skip::is_all()
}

fn a_killed_leaktrace_leaves_nothing(python: &Interpreter) {
    if is_left_out(python) {
        skip!("left out without --all");
    }
    for way in ways(python) {
        a_killed_leaktrace_that_attaches_so_leaves_nothing(python, way);
    }
}

fn a_killed_leaktrace_that_attaches_so_leaves_nothing(python: &Interpreter, way: &[&str]) {
    let target = start(python);
    let lost = lost_uprobes().unwrap();
    // While it attaches, and between bursts.
    for milliseconds in [100, 300, 1000] {
        kill_leaktrace(&target, way, || std::thread::sleep(Duration::from_millis(milliseconds)));
    }
    // Within a burst, and while it takes its probes out. There the kernel can lose one: it gives up to
    // write the target's code when the thread that closes the probe is being killed.
    for milliseconds in [0, 3, 6, 10, 15, 25, 50, 100, 200, 300] {
        kill_leaktrace(&target, way, || {
            await_probe(target.pid()).unwrap();
            std::thread::sleep(Duration::from_millis(milliseconds));
        });
    }
    assert_eq!(lost_uprobes().unwrap(), lost, "the kernel has lost a uprobe, see dmesg");
    must_equal_its_twin(python, target);
}

/// Kills leaktrace at the given moment; nothing of it may be left.
fn kill_leaktrace(target: &Target, way: &[&str], moment: impl Fn()) {
    let pid = target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    command.args(["--pid", &pid, "--duration", "60s", "--overhead", "20%"]).args(way);
    let leaktrace = Leaktrace::start(&mut command).unwrap();
    moment();
    leaktrace.signal(Signal::SIGKILL).unwrap();
    let outcome = leaktrace.wait().unwrap();
    assert_eq!(outcome.code, None, "it ended by itself: {outcome:?}");
    must_be_unprobed(target);
}

fn many_observations_leave_nothing(python: &Interpreter) {
    if is_left_out(python) {
        skip!("left out without --all");
    }
    let cycles =
        std::env::var("LEAKTRACE_CYCLES").map_or(5, |cycles| cycles.parse::<usize>().unwrap());
    let target = start(python);
    let pid = target.pid().to_string();
    for cycle in 0..cycles {
        let way = WAYS[cycle % 2];
        let outcome =
            leaktrace::run(&[&["--pid", &pid, "--duration", "1s"], way].concat()).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        must_be_unprobed(&target);
    }
    must_equal_its_twin(python, target);
}

for_each_interpreter!(
    bare: a_killed_leaktrace_leaves_nothing,
    many_observations_leave_nothing,
);

#[test]
fn a_probe_would_be_seen() {
    let python = any_python!();
    let target = start(&python);
    assert_eq!(altered_code(target.pid()).unwrap(), Vec::<String>::new());
    let pid = target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    command.args(["--pid", &pid, "--duration", "20s", "--overhead", "50%"]);
    let leaktrace = Leaktrace::start(&mut command).unwrap();
    await_probe(target.pid()).unwrap();
    leaktrace.signal(Signal::SIGINT).unwrap();
    leaktrace.wait().unwrap();
    must_be_unprobed(&target);
}

#[test]
fn twins_are_equal() {
    let python = any_python!();
    let target = start(&python);
    std::thread::sleep(Duration::from_millis(500));
    must_equal_its_twin(&python, target);
}
