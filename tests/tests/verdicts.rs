//! What leaktrace says of services that leak and of the same services without the leak.

mod common;

use leak_tests::interpreter::{Interpreter, root};
use leak_tests::leaktrace::{self, Outcome};
use leak_tests::program::Program;
use leak_tests::report::{self, Report};
use leak_tests::skip;
use leak_tests::target::Target;
use serde_json::Value;

const SECONDS: u32 = 20;

/// Traces a program and returns the report.
fn report(name: &str, python: &Interpreter, args: &[&str]) -> (Program, Report) {
    let program = Program::open(name).unwrap();
    let mut running = program.start(python, args).unwrap();
    let report = report::judged(running.target.pid()).unwrap();
    assert!(running.target.ended().unwrap().is_none(), "the program ended");
    assert_eq!(report["target"]["pid"], running.target.pid(), "{report:#}");
    (program, report)
}

/// The report must accuse a line that leaks, first.
fn must_accuse(name: &str, python: &Interpreter) {
    let (program, report) = report(name, python, &[]);
    must_keep_its_contract(&program, python, &report);
    assert_eq!(report["verdict"], "leak", "{report:#}");
    let first = &report["leaks"][0];
    assert_eq!(first["rank"], 1, "{report:#}");
    assert_eq!(first["domain"], program.domain.as_str(), "{report:#}");
    assert!(program.is_culprit(&first["stack"]), "{name} leaks at {:?}: {report:#}", program.leaks);
    assert!(program.is_kept_by(&first["retained_by"]), "{name}: {:?}: {report:#}", program.kept_by);
}

/// The report must accuse no one.
fn must_acquit(name: &str, python: &Interpreter) {
    let (_, report) = report(name, python, &["--clean"]);
    assert_eq!(report["verdict"], "no-leak", "{report:#}");
    assert_eq!(report["leaks"], Value::Array(Vec::new()), "{report:#}");
}

/// What the report says besides its verdict is there and true.
fn must_keep_its_contract(program: &Program, python: &Interpreter, report: &Report) {
    assert_eq!(report["schema"], "leaktrace.report/1", "{report:#}");
    let version = report["target"]["python"].as_str().unwrap();
    let expected = python.name.trim_start_matches(char::is_alphabetic);
    assert!(version.starts_with(expected), "{version} is not {expected}");
    let observed = report["observed"]["duration_s"].as_f64().unwrap();
    let asked = report::LENGTHS.map(f64::from);
    assert!(asked.iter().any(|asked| (observed - asked).abs() < 1.5), "{observed} s");
    let overhead = &report["overhead"];
    assert_eq!(overhead["budget"].as_f64(), Some(0.01), "{report:#}");
    assert!(overhead["spent"].as_f64().unwrap() <= 0.02, "{overhead:#}");
    let coverage = report["coverage"]["pymalloc"].as_f64();
    if python.name.starts_with("py") && program.domain == "pymalloc" {
        assert!(coverage.unwrap() >= 0.98, "coverage {coverage:?}");
    }
    let rss = report["memory"]["rss_bytes"].as_u64().unwrap();
    assert!((1 << 22..1 << 32).contains(&rss), "{rss} bytes");
    for site in ["leaks", "sites"] {
        assert!(report[site].is_array(), "{report:#}");
    }
}

fn small_objects_leak(python: &Interpreter) {
    // Their like is among the others.
    judge_small(python, &["debian3.9", "debian3.13", "shared3.15"], must_accuse);
}

fn small_objects_clean(python: &Interpreter) {
    let like = ["py3.9", "py3.10", "py3.12", "debian3.9", "debian3.13", "debian3.14", "shared3.15"];
    judge_small(python, &like, must_acquit);
}

fn judge_small(python: &Interpreter, left_out: &[&str], judge: fn(&str, &Interpreter)) {
    if left_out.contains(&python.name) && !skip::is_all() {
        skip!("left out without --all");
    }
    judge("small", python);
}

fn numpy_arrays_leak(python: &Interpreter) {
    mostly_on("py3.11", "numpy_arrays", python, must_accuse);
}

fn numpy_arrays_clean(python: &Interpreter) {
    mostly_on("py3.11", "numpy_arrays", python, must_acquit);
}

fn mmap_buffers_leak(python: &Interpreter) {
    mostly_on("py3.12", "mmap_buffers", python, must_accuse);
}

fn mmap_buffers_clean(python: &Interpreter) {
    mostly_on("py3.12", "mmap_buffers", python, must_acquit);
}

fn fastapi_visits_leak(python: &Interpreter) {
    mostly_on("py3.13", "fastapi_visits", python, must_accuse);
}

fn fastapi_visits_clean(python: &Interpreter) {
    mostly_on("py3.13", "fastapi_visits", python, must_acquit);
}

/// The quick round judges only small objects, the usual one each other program on one interpreter.
fn mostly_on(chosen: &str, name: &str, python: &Interpreter, judge: fn(&str, &Interpreter)) {
    if skip::is_fast() {
        skip!("left out by --fast");
    }
    if python.name != chosen && !skip::is_all() {
        skip!("run on {chosen} alone without --all");
    }
    judge(name, python);
}

for_each_interpreter!(bare: small_objects_leak, small_objects_clean);

for_each_interpreter!(
    numpy_arrays_leak,
    numpy_arrays_clean,
    mmap_buffers_leak,
    mmap_buffers_clean,
    fastapi_visits_leak,
    fastapi_visits_clean,
);

#[test]
fn a_leak_fails_the_run_when_asked() {
    let python = any_python!();
    let run = |args: &[&str]| -> Outcome {
        let running = Program::open("small").unwrap().start(&python, args).unwrap();
        let pid = running.target.pid().to_string();
        leaktrace::run(&["--pid", &pid, "--duration", "20s", "--fail-on-leak"]).unwrap()
    };
    assert_eq!(run(&[]).code, Some(10));
    assert_eq!(run(&["--clean"]).code, Some(0));
}

#[test]
fn the_text_names_the_line_for_a_person() {
    let python = any_python!();
    let program = Program::open("small").unwrap();
    let running = program.start(&python, &[]).unwrap();
    let pid = running.target.pid().to_string();
    let outcome = leaktrace::run(&["--pid", &pid, "--duration", "20s"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let named = |line: &u64| outcome.stdout.contains(&format!("small.py:{line}"));
    assert!(program.leaks.iter().any(|leak| named(&leak.line)), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains('\x1b'), "colour, but no terminal");
}

/// A burst finds it waiting, and its request, which leaks at its end, takes all that a burst may spend. So
/// only bursts that begin late see the leak, and it takes twice as many.
#[test]
fn a_service_that_mostly_waits_leaks() {
    let python = any_python!();
    let program = Program::open("small").unwrap();
    let running = program.start(&python, &["--rate", "200"]).unwrap();
    let outcome = leaktrace::observe(running.target.pid(), 2 * SECONDS).unwrap();
    let report = outcome.report().unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    assert!(program.is_culprit(&report["leaks"][0]["stack"]), "{report:#}");
}

/// What looks alive, since the same text lies where it lay, was seen to go by bursts.
#[test]
fn the_same_text_in_the_same_place_is_not_kept() {
    let python = any_python!();
    let program = Program::open("same_text").unwrap();
    let running = program.start(&python, &[]).unwrap();
    let report = report::judged(running.target.pid()).unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    for leak in report["leaks"].as_array().unwrap() {
        assert!(program.is_culprit(&leak["stack"]), "{report:#}");
    }
}

/// It leaks a fourth of the time, so that an observation may end in a pause. Two steps say too little to accuse a
/// line, and growth that has gone on before is not cleared for pausing again.
#[test]
fn a_service_whose_work_changes_is_not_cleared() {
    let python = any_python!();
    let program = Program::open("phases").unwrap();
    let running = program.start(&python, &["--phase", "2"]).unwrap();
    let outcome = leaktrace::observe(running.target.pid(), SECONDS).unwrap();
    let report = outcome.report().unwrap();
    assert_ne!(report["verdict"], "no-leak", "{report:#}");
    for leak in report["leaks"].as_array().unwrap() {
        assert!(program.is_culprit(&leak["stack"]), "{report:#}");
    }
}

/// What `cargo xtask trace` shows first. The scores that `rank` drops are recycled as the vectors of the
/// embeddings that stay, so that the innocent line seems to keep them.
#[test]
fn the_bundled_service_leaks_by_its_cache() {
    let python = any_python!();
    let path = root().join("tests/services/embedding_service.py");
    let service = Target::start(&python, &path, &[]).unwrap();
    let report = report::judged(service.pid()).unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    let first = &report["leaks"][0]["stack"][0];
    assert!(first["file"].as_str().unwrap().ends_with("embedding_service.py"), "{report:#}");
    let function = first["function"].as_str().unwrap();
    assert!(["embedding_of", "embed", "Embedding.__init__"].contains(&function), "{report:#}");
    // Its floats go over a free list to the cached vectors; it keeps nothing itself.
    for leak in report["leaks"].as_array().unwrap() {
        assert_ne!(leak["stack"][0]["function"], "rank", "{report:#}");
    }
}

#[test]
fn two_at_a_time_are_both_right() {
    let python = any_python!();
    let program = Program::open("small").unwrap();
    let running = program.start(&python, &[]).unwrap();
    let pid = running.target.pid();
    let reports = std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| report::judged(pid).unwrap()));
        runs.map(|run| run.join().unwrap())
    });
    for report in reports {
        assert_eq!(report["verdict"], "leak", "{report:#}");
        assert!(program.is_culprit(&report["leaks"][0]["stack"]), "{report:#}");
    }
}
