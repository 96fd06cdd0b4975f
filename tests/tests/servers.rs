//! Servers with workers, as they come from PyPI: each worker leaks by itself, the one that watches over them does not.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::program::Program;
use leak_tests::report;
use leak_tests::skip;

fn judge_on(chosen: &str, server: &str, python: &Interpreter) {
    if skip::is_fast() {
        skip!("left out by --fast");
    }
    if python.name != chosen && !skip::is_all() {
        skip!("run on {chosen} alone without --all");
    }
    let program = Program::open("visits_app").unwrap();
    let running = program.start(python, &[server]).unwrap();
    let report = report::judged_with(running.target.pid(), &["--children"]).unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    let leaks = report["leaks"].as_array().unwrap();
    assert!(program.is_culprit(&leaks[0]["stack"]), "{report:#}");
    for leak in leaks {
        assert_ne!(leak["pid"], running.target.pid(), "its workers leak, not itself: {report:#}");
    }
    let members = report["tree"]["members"].as_array().unwrap();
    assert!(members.len() > 2, "itself and two workers: {report:#}");
}

fn gunicorn_and_what_it_forks(python: &Interpreter) {
    judge_on("py3.11", "gunicorn", python);
}

fn uvicorn_and_what_it_spawns(python: &Interpreter) {
    judge_on("py3.12", "uvicorn", python);
}

for_each_interpreter!(gunicorn_and_what_it_forks, uvicorn_and_what_it_spawns);
