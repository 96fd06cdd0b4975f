//! Exit codes and what is said with them.

mod common;

use leak_tests::interpreter;
use leak_tests::leaktrace::{self, Leaktrace, Outcome};
use leak_tests::maps::await_probe;
use leak_tests::program::Program;
use leak_tests::{skip, target::Target};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that is ended with the test.
struct Bystander(Child);

impl Bystander {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn says(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "an error is no report: {outcome:?}");
    for word in words {
        let said = outcome.stderr.to_lowercase();
        assert!(said.contains(&word.to_lowercase()), "no {word:?} in {:?}", outcome.stderr);
    }
}

#[test]
fn no_such_process() {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let gone = {
        let process = Bystander::start(Command::new("sleep").arg("60")).unwrap();
        process.pid()
    };
    says(&leaktrace::observe(gone, 20).unwrap(), 4, &[&format!("no process {gone}")]);
}

#[test]
fn a_process_that_is_not_python() {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let sleep = Bystander::start(Command::new("sleep").arg("60")).unwrap();
    says(&leaktrace::observe(sleep.pid(), 20).unwrap(), 4, &["python", &sleep.pid().to_string()]);
}

#[test]
fn a_process_of_another_architecture() {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("python3.11");
    fs::write(&path, pausing_i386_executable()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let process = match Bystander::start(&mut Command::new(&path)) {
        Ok(process) => process,
        Err(error) => skip!("this kernel runs no 32-bit programs ({error})"),
    };
    says(&leaktrace::observe(process.pid(), 20).unwrap(), 4, &["32-bit"]);
}

/// The smallest 32-bit x86 program that does nothing for ever: an ELF header, one segment, and
/// `loop: mov eax, 29 (pause); int 0x80; jmp loop`.
fn pausing_i386_executable() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    let word = |file: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    // Type EXEC, machine i386, version 1, entry behind the headers, program headers at 52.
    half(&mut file, &[2, 3]);
    word(&mut file, &[1, BASE + HEADERS, 52, 0, 0]);
    half(&mut file, &[52, 32, 1, 0, 0, 0]);
    // One PT_LOAD of the whole file, readable and executable.
    let size = HEADERS + code.len() as u32;
    word(&mut file, &[1, 0, BASE, BASE, size, size, 5, 0x1000]);
    file.extend(code);
    file
}

#[test]
fn a_target_that_ends_at_once() {
    let python = any_python!();
    let mut running = Program::open("small").unwrap().start(&python, &[]).unwrap();
    let pid = running.target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    let leaktrace =
        Leaktrace::start(command.args(["--pid", &pid, "--duration", "60s", "--format", "json"]));
    // Long enough to be attached, too short for a verdict.
    await_probe(running.target.pid()).unwrap();
    running.target.kill().unwrap();
    let outcome = leaktrace.unwrap().wait().unwrap();
    assert_eq!(outcome.code, Some(5), "{outcome:?}");
    assert!(outcome.stderr.contains("ended"), "{outcome:?}");
    assert!(outcome.took < Duration::from_secs(15), "{outcome:?}");
}

#[test]
fn a_target_that_ends_late_is_reported() {
    let python = any_python!();
    let program = Program::open("small").unwrap();
    let mut running = program.start(&python, &[]).unwrap();
    let pid = running.target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    let leaktrace =
        Leaktrace::start(command.args(["--pid", &pid, "--duration", "120s", "--format", "json"]));
    std::thread::sleep(Duration::from_secs(22));
    running.target.kill().unwrap();
    let outcome = leaktrace.unwrap().wait().unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.report().unwrap();
    assert_eq!(report["verdict"], "leak", "{report:#}");
    assert!(program.is_culprit(&report["leaks"][0]["stack"]), "{report:#}");
}

#[test]
fn a_user_without_rights_learns_what_would_do() {
    let python = any_python!();
    // Where that user can read and run it.
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("leaktrace");
    fs::copy(leaktrace::binary().unwrap(), &binary).unwrap();
    let running = Program::open("small").unwrap().start(&python, &["--rate", "10"]).unwrap();
    let pid = running.target.pid().to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    command.args(["--pid", &pid, "--duration", "20s"]);
    let outcome = Leaktrace::start(&mut command).unwrap().wait().unwrap();
    says(&outcome, 3, &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
}

/// The stacks of Python's code take one capability, those of compiled code as many as tracing.
#[test]
fn a_dump_with_one_capability() {
    if !skip::is_root() {
        skip!("the target is root's");
    }
    // What lies in a home directory is nobody's to read.
    let Some(python) = interpreter::find("debian3.11") else {
        skip!("debian3.11 isn't here; `cargo xtask setup` finds it");
    };
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("leaktrace");
    fs::copy(leaktrace::binary().unwrap(), &binary).unwrap();
    let running = Program::open("small").unwrap().start(&python, &["--rate", "10"]).unwrap();
    let pid = running.target.pid().to_string();
    let dump = |how: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace"]);
        command.arg(&binary).args(["dump", "--pid", &pid]).args(how);
        Leaktrace::start(&mut command).unwrap().wait().unwrap()
    };
    let plain = dump(&[]);
    assert!(plain.code == Some(0) && plain.stdout.contains("small.py"), "{plain:?}");
    says(&dump(&["--native"]), 3, &["CAP_BPF", "CAP_PERFMON"]);
}

#[test]
fn bad_usage() {
    if leaktrace::binary().is_err() {
        skip!("leaktrace isn't built");
    }
    let cases: [&[&str]; 7] = [
        &[],
        &["--pid", "words"],
        &["--pid", "-3"],
        &["--pid", "1", "--duration", "banana"],
        &["--pid", "1", "--overhead", "200%"],
        &["--pid", "1", "--format", "smoke-signals"],
        &["--no-such-flag"],
    ];
    for args in cases {
        let outcome = leaktrace::run(args).unwrap();
        assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:?}");
        assert!(
            outcome.stderr.contains("Usage") || outcome.stderr.contains("--help"),
            "{outcome:?}"
        );
    }
}

#[test]
fn an_unwritable_output_fails_before_the_observation() {
    let python = any_python!();
    let running = Program::open("small").unwrap().start(&python, &["--rate", "10"]).unwrap();
    let pid = running.target.pid().to_string();
    let output = "/no/such/directory/report.json";
    let arguments = ["--pid", &pid, "--duration", "30s", "--format", "json", "--output", output];
    let outcome = leaktrace::run(&arguments).unwrap();
    says(&outcome, 1, &[output]);
    assert!(outcome.took < Duration::from_secs(10), "{outcome:?}");
}

#[test]
fn an_output_file_gets_the_report() {
    let python = any_python!();
    let running = Program::open("small").unwrap().start(&python, &["--rate", "1000"]).unwrap();
    let pid = running.target.pid().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let output = file.to_str().unwrap();
    let arguments = ["--pid", &pid, "--duration", "3s", "--format", "json", "--output", output];
    let outcome = leaktrace::run(&arguments).unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stdout, "");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(report["schema"], "leaktrace.report/1");
}

#[test]
fn ctrl_c_ends_the_observation_with_a_report() {
    let python = any_python!();
    let running = Program::open("small").unwrap().start(&python, &[]).unwrap();
    let pid = running.target.pid().to_string();
    let mut command = Command::new(leaktrace::binary().unwrap());
    command.args(["--pid", &pid, "--duration", "120s", "--format", "json"]);
    let leaktrace = Leaktrace::start(&mut command).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    leaktrace.signal(Signal::SIGINT).unwrap();
    let outcome = leaktrace.wait().unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let observed = outcome.report().unwrap()["observed"]["duration_s"].as_f64().unwrap();
    assert!((1.0..10.0).contains(&observed), "{observed} s");
    assert!(outcome.took < Duration::from_secs(15), "{outcome:?}");
}

#[test]
fn an_unsupported_python_is_refused() {
    if !skip::is_root() {
        skip!("tracing needs root");
    }
    let home =
        std::env::var("PYENV_ROOT").ok().or_else(|| Some(std::env::var("HOME").ok()? + "/.pyenv"));
    let old = home.into_iter().flat_map(|home| fs::read_dir(home + "/versions")).flatten();
    let old = old
        .map_while(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("2.")));
    let Some(old) = old else { skip!("no Python 2 is here") };
    let mut command = Command::new(old.join("bin/python"));
    command.args(["-c", "import sys,time; print('ready'); sys.stdout.flush(); time.sleep(60)"]);
    let target = Target::spawn(&mut command).unwrap();
    says(&leaktrace::observe(target.pid(), 20).unwrap(), 4, &["python"]);
}
