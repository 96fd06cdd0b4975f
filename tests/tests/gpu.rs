//! Memory of GPUs, on stand-ins for CUDA's libraries and torch's that have the real names and calls. What only a real
//! GPU shows, `cargo xtask gpu-check` does.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Leaktrace};
use leak_tests::maps;
use leak_tests::program::{Program, Running};
use leak_tests::report;
use leak_tests::skip;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// A service that hardly works allows few bursts, on a slow machine one in two seconds; a verdict takes five.
const SECONDS: u32 = 20;

/// Starts a program; None where it can't run here. The libraries are built once and stay, so that no compiler runs while a program is observed.
fn start(program: &Program, python: &Interpreter, args: &[&str]) -> Option<Running> {
    if python.name != "py3.11" && !skip::is_all() {
        skip!("left out without --all");
    }
    if Command::new("cc").arg("--version").output().is_err() {
        skip!("needs cc");
    }
    let folder = leak_tests::interpreter::root().join("target/fake-cuda");
    let mut command = python.run(&program.path).unwrap();
    Some(program.spawn(python, command.env("LEAKTRACE_CUDA_DIR", folder).args(args)).unwrap())
}

/// Observes a program that leaks memory of this kind, and the same without its leak.
fn judge(name: &str, memory: &str, args: &[&str], python: &Interpreter) {
    let program = Program::open(name).unwrap();
    for clean in [false, true] {
        let clean_args: &[&str] = if clean { &["--clean"] } else { &[] };
        let Some(mut running) = start(&program, python, &[args, clean_args].concat()) else {
            return;
        };
        let report = report::judged(running.target.pid()).unwrap();
        assert!(running.target.ended().unwrap().is_none(), "the program ended");
        let leaks = report["leaks"].as_array().unwrap();
        let on_gpu = leaks.iter().filter(|leak| leak["domain"] == program.domain.as_str());
        let on_gpu: Vec<&Value> = on_gpu.collect();
        assert_eq!(on_gpu.len(), usize::from(!clean), "{report:#}");
        for leak in on_gpu {
            assert!(program.is_culprit(&leak["stack"]), "{report:#}");
            assert_eq!(leak["memory"], memory, "{report:#}");
        }
        if clean {
            assert_eq!(report["verdict"], "no-leak", "{report:#}");
        }
        assert_eq!(report["losses"]["stacks_missing"], 0, "{report:#}");
    }
}

fn calls_of_the_runtime(python: &Interpreter) {
    judge("gpu_malloc", "device", &[], python);
}

fn calls_of_the_driver_and_mapped_memory(python: &Interpreter) {
    judge("gpu_driver", "physical", &[], python);
}

fn pinned_memory_of_the_host(python: &Interpreter) {
    judge("gpu_pinned", "pinned", &[], python);
}

fn tensors(python: &Interpreter) {
    judge("gpu_tensors", "tensor", &[], python);
}

fn a_library_that_is_loaded_later(python: &Interpreter) {
    judge("gpu_late", "device", &["--after", "2"], python);
}

/// A million random calls in eight threads: nothing is missed, nothing counted twice.
fn sums_are_the_librarys_own(python: &Interpreter) {
    let program = Program::open("gpu_random").unwrap();
    let Some(mut running) = start(&program, python, &[]) else { return };
    let pid = running.target.pid().to_string();
    let arguments = ["--pid", &pid, "--format", "json", "--duration", "120s"];
    let observing =
        Leaktrace::start(Command::new(leaktrace::binary().unwrap()).args(arguments)).unwrap();
    // Those of the libraries come before the first burst.
    maps::await_probe_in(running.target.pid(), "python").unwrap();
    running.target.tell("go\n").unwrap();
    let counted = running.target.line(Duration::from_secs(120)).unwrap();
    let counted: Value = serde_json::from_str(&counted).unwrap();
    observing.signal(Signal::SIGINT).unwrap();
    let report = observing.wait().unwrap().report().unwrap();
    let kinds = report["gpu"]["memory"].as_array().unwrap();
    for (own, reported) in [
        ("device", "device"),
        ("managed", "managed"),
        ("async", "pooled"),
        ("pinned", "pinned"),
        ("registered", "registered"),
        ("vmm", "physical"),
    ] {
        let own = &counted[own];
        let ours = kinds.iter().find(|kind| kind["kind"] == reported).unwrap();
        let gone = own["frees"].as_u64().unwrap() + own["dropped"].as_u64().unwrap();
        let expected = json!([
            own["live_bytes"],
            own["live_count"],
            own["allocations"],
            gone,
            own["failures"],
            0
        ]);
        let seen = json!([
            ours["live_bytes"],
            ours["live_count"],
            ours["allocations"],
            ours["frees"],
            ours["failures"],
            ours["unreached"]
        ]);
        assert_eq!(seen, expected, "{reported}: {report:#}");
    }
    for (what, lost) in report["losses"].as_object().unwrap() {
        assert_eq!(lost, 0, "{what}: {report:#}");
    }
}

/// Who asked for how much, what was free, and who holds the most.
fn calls_that_find_no_memory(python: &Interpreter) {
    let program = Program::open("gpu_oom").unwrap();
    let Some(running) = start(&program, python, &[]) else { return };
    let report = leaktrace::observe(running.target.pid(), SECONDS).unwrap().report().unwrap();
    let gpu = &report["gpu"];
    let failures = gpu["failures"].as_array().unwrap();
    assert!(gpu["failed"].as_u64().unwrap() >= failures.len() as u64 && failures.len() >= 4);
    // By the last of them it is known who holds what.
    let by = |call: &str| failures.iter().rfind(|failure| failure["call"] == call).unwrap();
    let (runtime, torch) = (by("cudaMalloc"), by("torch's allocator"));
    assert_eq!(runtime["size_bytes"], 512 << 20, "{gpu:#}");
    assert!(torch["torch_reserved_bytes"].as_u64().is_some(), "{gpu:#}");
    for failure in [runtime, torch] {
        let named = failure["stack"].as_array().unwrap();
        assert!(named.iter().any(|frame| frame["function"] == "ask_too_much"), "{gpu:#}");
        let holders = failure["holders"].as_array().unwrap();
        assert!(program.is_culprit(&holders[0]["stack"]), "{gpu:#}");
    }
}

/// leaktrace's end, by whatever signal, is nothing to the program: it goes on, and its sums come out as ever.
fn the_program_goes_on(python: &Interpreter) {
    let program = Program::open("gpu_random").unwrap();
    let mut results = Vec::new();
    for signal in [None, Some(Signal::SIGINT), Some(Signal::SIGKILL)] {
        let Some(mut running) = start(&program, python, &["--operations", "400000"]) else {
            return;
        };
        let pid = running.target.pid().to_string();
        let observing = signal.map(|_| {
            let arguments = ["--pid", &pid, "--quiet", "--format", "json", "--duration", "120s"];
            let command = &mut Command::new(leaktrace::binary().unwrap());
            let observing = Leaktrace::start(command.args(arguments)).unwrap();
            // Those of the libraries come before the first burst.
            maps::await_probe_in(running.target.pid(), "python").unwrap();
            observing
        });
        running.target.tell("go\n").unwrap();
        if let (Some(signal), Some(observing)) = (signal, &observing) {
            // In the midst of its calls.
            std::thread::sleep(Duration::from_millis(300));
            observing.signal(signal).unwrap();
            assert!(running.target.line(Duration::ZERO).is_err(), "it was done before");
        }
        results.push(running.target.line(Duration::from_secs(120)).unwrap());
        drop(observing);
        running.target.tell("end\n").unwrap();
        results.push(running.target.line(Duration::from_secs(120)).unwrap());
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:#?}");
}

for_each_interpreter!(
    calls_of_the_runtime,
    calls_of_the_driver_and_mapped_memory,
    pinned_memory_of_the_host,
    tensors,
    a_library_that_is_loaded_later,
    sums_are_the_librarys_own,
    calls_that_find_no_memory,
    the_program_goes_on,
);
