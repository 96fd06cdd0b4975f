//! What `leaktrace doctor` says of a process that can be traced.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace;
use leak_tests::program::Program;

/// The verifier gives up on a program after so many instructions.
const LIMIT: u64 = 1_000_000;

fn the_kernel_takes_all_programs(python: &Interpreter) {
    let running = Program::open("small").unwrap().start(python, &[]).unwrap();
    let pid = running.target.pid().to_string();
    let outcome = leaktrace::run(&["doctor", "--pid", &pid, "--format", "json"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.report().unwrap();
    let programs = report["process"]["programs"].as_array().unwrap();
    for name in ["pymalloc_malloc", "malloc_exit", "sys_exit", "tree_fork", "thread_registers"] {
        let program = programs.iter().find(|program| program["name"] == name);
        let program = program.unwrap_or_else(|| panic!("no {name}: {programs:#?}"));
        let verified = program["verifier"]["instructions"].as_u64().unwrap();
        assert!((1..LIMIT).contains(&verified), "{program}");
        assert!(program["verifier"]["peak_states"].as_u64() > Some(0), "{program}");
        assert!(program["instructions"].as_u64() > Some(0), "{program}");
    }
}

for_each_interpreter!(the_kernel_takes_all_programs);
