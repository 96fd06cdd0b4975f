//! Processes that are started, placed or built in unusual ways: the same answer as for a plain one.

mod common;

use leak_tests::interpreter::Interpreter;
use leak_tests::leaktrace::{self, Leaktrace, Outcome};
use leak_tests::program::{Program, directory};
use leak_tests::report;
use leak_tests::skip;
use leak_tests::target::Target;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says that it is ready, and waits.
const IDLE: &str = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n";

/// Runs Python code through the library named by its first argument, or through the one that it is linked
/// with.
const EMBEDDING: &str = r#"
#include <dlfcn.h>
#ifdef LINKED
void Py_InitializeEx(int); int PyRun_SimpleString(const char *);
int main(int count, char **words) {
    Py_InitializeEx(0);
    return PyRun_SimpleString(words[1]);
}
#else
int main(int count, char **words) {
    void *library = dlopen(words[2], RTLD_NOW | RTLD_GLOBAL);
    if (!library) return 2;
    ((void (*)(int))dlsym(library, "Py_InitializeEx"))(0);
    return ((int (*)(const char *))dlsym(library, "PyRun_SimpleString"))(words[1]);
}
#endif
"#;

/// What `doctor` finds of a process that should not depend on how it was started.
fn findings(pid: u32) -> Vec<(String, String)> {
    let outcome =
        leaktrace::run(&["doctor", "--pid", &pid.to_string(), "--format", "json"]).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.report().unwrap();
    let checks = report["process"]["checks"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checks
        .iter()
        .map(|check| (text(&check["name"]), text(&check["found"])))
        .filter(|(name, _)| ["Python", "allocator", "C heap", "coverage"].contains(&name.as_str()))
        .collect()
}

/// Is a process found like one that was started plainly?
fn must_be_found(python: &Interpreter, pid: u32) {
    let plain = Target::spawn(Command::new(&python.path).args(["-c", IDLE])).unwrap();
    let expected = findings(plain.pid());
    assert_eq!(expected.len(), 4, "{expected:?}");
    assert_eq!(findings(pid), expected);
}

/// The innermost descendant of a process, as this process numbers it.
fn innermost(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().map_or(pid, |child| innermost(child.parse().unwrap()))
}

fn must_accuse(report: &Value) {
    let program = Program::open("small").unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    assert!(program.is_culprit(&report["leaks"][0]["stack"]), "{report:#}");
}

/// A CPython that pyenv has installed, of a version that leaktrace doesn't know.
fn unknown_python() -> Option<PathBuf> {
    let home = std::env::var("HOME").ok()? + "/.pyenv";
    let root = std::env::var("PYENV_ROOT").unwrap_or(home);
    let versions = fs::read_dir(root + "/versions").ok()?;
    let mut paths = versions.filter_map(|entry| Some(entry.ok()?.path()));
    let path = paths.find(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"3.7."))
    })?;
    Some(path.join("bin/python"))
}

/// Its lines are not seen, its growth is.
#[test]
fn a_version_that_is_not_known() {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let Some(python) = unknown_python() else { skip!("no CPython 3.7 is here") };
    let program = directory().join("large_bytes.py");
    let start =
        |args: &[&str]| Target::spawn(Command::new(&python).arg(&program).args(args)).unwrap();
    let leaking = start(&[]);
    let outcome = leaktrace::observe(leaking.pid(), 12).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("3.7"), "{outcome:?}");
    let report = outcome.report().unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    assert_eq!(report["leaks"][0]["stack"][0]["kind"], "native", "{report:#}");
    assert!(report["target"]["python"].as_str().unwrap().starts_with("3.7."), "{report:#}");
    assert!(report["unseen"][0].as_str().unwrap().contains("not known"), "{report:#}");
    drop(leaking);
    let outcome = leaktrace::observe(start(&["--clean"]).pid(), 12).unwrap();
    assert_eq!(outcome.report().unwrap()["verdict"], "no-leak", "{outcome:?}");
}

/// A Python 3.11 that is not static, and what it says of itself.
fn shared_library(python: &Interpreter) -> Option<PathBuf> {
    let code = "import sysconfig as s; print(s.get_config_var('LIBDIR') + '/' + s.get_config_var('LDLIBRARY'))";
    let output = Command::new(&python.path).args(["-c", code]).output().unwrap();
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    (path.exists() && path.to_string_lossy().contains(".so")).then_some(path)
}

fn home(python: &Interpreter) -> String {
    let code = "import sys; print(sys.base_prefix)";
    let output = Command::new(&python.path).args(["-c", code]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Compiles [`EMBEDDING`]; None without a compiler.
fn compiled(folder: &Path, linked_with: Option<&Path>) -> Option<PathBuf> {
    let (source, program) = (folder.join("embedding.c"), folder.join("embedding"));
    fs::write(&source, EMBEDDING).unwrap();
    let mut compiler = Command::new("cc");
    compiler.arg(&source).arg("-o").arg(&program).arg("-ldl");
    if let Some(library) = linked_with {
        let folder = library.parent().unwrap().display().to_string();
        compiler.arg("-DLINKED").arg(library).arg(format!("-Wl,-rpath,{folder}"));
    }
    compiler.status().is_ok_and(|status| status.success()).then_some(program)
}

#[test]
fn in_a_pid_namespace_of_its_own() {
    let python = any_python!();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(&python.path);
    let target = Target::spawn(command.arg(directory().join("small.py"))).unwrap();
    must_accuse(&report::judged(innermost(target.pid())).unwrap());
}

#[test]
fn in_a_user_namespace_of_its_own() {
    let python = any_python!();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--kill-child", "--fork"]);
    let target = Target::spawn(command.arg(&python.path).args(["-c", IDLE])).unwrap();
    must_be_found(&python, innermost(target.pid()));
}

/// Runs leaktrace, with the arguments given, beside a program in namespaces of their own; `$pid` is the
/// program's id there.
fn within(namespaces: &[&str], script: &str) -> Outcome {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--fork", "--kill-child", "sh", "-c", script]);
    command.env("LEAKTRACE", leaktrace::binary().unwrap());
    Leaktrace::start(&mut command).unwrap().wait().unwrap()
}

#[test]
fn leaktrace_in_a_pid_namespace() {
    let python = any_python!();
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let script = format!(
        "{} {}/small.py > {said} & pid=$!
         until grep -q ready {said}; do kill -0 $pid || exit 9; sleep 0.1; done
         $LEAKTRACE --pid $pid --duration 20s --format json",
        python.path.display(),
        directory().display(),
        said = said.display()
    );
    let outcome = within(&["--pid", "--mount-proc"], &script);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.report().unwrap();
    assert!(report["target"]["pid"].as_u64().unwrap() < 100, "not of its own: {report:#}");
    must_accuse(&report);
    // What is seen at tracepoints.
    assert!(report["fresh_memory"].as_array().is_some_and(|sites| !sites.is_empty()), "{report:#}");
}

#[test]
fn leaktrace_beside_the_proc_of_another_namespace() {
    let python = any_python!();
    let target = Target::spawn(Command::new(&python.path).args(["-c", IDLE])).unwrap();
    let script = format!("$LEAKTRACE --pid {} --duration 2s", target.pid());
    let outcome = within(&["--pid"], &script);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("mount -t proc"), "{outcome:?}");
}

#[test]
fn leaktrace_in_a_user_namespace() {
    let python = any_python!();
    let target = Target::spawn(Command::new(&python.path).args(["-c", IDLE])).unwrap();
    let script = format!("$LEAKTRACE --pid {} --duration 2s", target.pid());
    let outcome = within(&["--user", "--map-root-user"], &script);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("user namespace"), "{outcome:?}");
    assert!(outcome.stderr.contains("host"), "{outcome:?}");
}

#[test]
fn started_through_the_dynamic_linker() {
    let python = any_python!();
    let linker = "/lib64/ld-linux-x86-64.so.2";
    let target = Target::spawn(Command::new(linker).arg(&python.path).args(["-c", IDLE])).unwrap();
    must_be_found(&python, target.pid());
}

#[test]
fn a_zipped_application() {
    let python = any_python!();
    let folder = tempfile::tempdir().unwrap();
    let (source, application) = (folder.path().join("source"), folder.path().join("service.pyz"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("__main__.py"), IDLE).unwrap();
    let mut zip = Command::new(&python.path);
    zip.args(["-m", "zipapp"]).arg(&source).arg("--output").arg(&application);
    assert!(zip.status().unwrap().success());
    let target = Target::spawn(Command::new(&python.path).arg(&application)).unwrap();
    must_be_found(&python, target.pid());
}

/// An update of the system puts another file in the executable's place.
#[test]
fn an_executable_that_was_replaced() {
    let python = any_python!();
    let folder = tempfile::tempdir().unwrap();
    let (copy, other) = (folder.path().join("python3"), folder.path().join("other"));
    let copied = Command::new("cp").arg("-L").arg(&python.path).arg(&copy).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(&copy);
    let target =
        Target::spawn(command.args(["-c", IDLE]).env("PYTHONHOME", home(&python))).unwrap();
    fs::write(&other, "#!/bin/sh\n").unwrap();
    fs::rename(&other, &copy).unwrap();
    must_be_found(&python, target.pid());
}

#[test]
fn a_program_that_embeds_python() {
    let python = any_python!();
    let Some(library) = shared_library(&python) else { skip!("{} has no library", python.name) };
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled(folder.path(), Some(&library)) else { skip!("no C compiler") };
    let target = embedding(&program, &python, &[]);
    must_be_found(&python, target.pid());
}

/// As one-file bundles do it: a copy of the library in a directory that is gone soon.
#[test]
fn a_library_that_was_unpacked_and_deleted() {
    let python = any_python!();
    let Some(library) = shared_library(&python) else { skip!("{} has no library", python.name) };
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled(folder.path(), None) else { skip!("no C compiler") };
    let copy = folder.path().join(library.file_name().unwrap());
    fs::copy(&library, &copy).unwrap();
    let target = embedding(&program, &python, &[copy.as_os_str()]);
    drop(folder);
    must_be_found(&python, target.pid());
}

fn embedding(program: &Path, python: &Interpreter, args: &[&OsStr]) -> Target {
    let mut command = Command::new(program);
    Target::spawn(command.arg(IDLE).args(args).env("PYTHONHOME", home(python))).unwrap()
}
