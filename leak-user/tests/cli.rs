//! The command as a shell sees it: exit codes, and what goes to which stream.

use std::process::{Command, Output, Stdio};

fn leaktrace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leaktrace")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [["--help"].as_slice(), &["-h"], &["--version"], &["doctor", "--help"]] {
        let output = leaktrace(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_usage_error_names_the_option_and_ends_with_2() {
    for (arguments, word) in [
        ([].as_slice(), "--pid"),
        (&["--pid", "x"], "--pid"),
        (&["--pid", "1", "--duration", "0s"], "--duration"),
        (&["--pid", "1", "--nonsense"], "--nonsense"),
        (&["doctor", "--pid", "0"], "--pid"),
    ] {
        let output = leaktrace(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(word), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn doctor_answers_for_programs() {
    let output = leaktrace(&["doctor", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "leaktrace.doctor/1");
    let code = if report["usable"] == true { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code));
}

#[test]
fn doctor_misses_a_process_that_is_not_there() {
    // One above the highest id that the kernel gives.
    let output = leaktrace(&["doctor", "--pid", "4194304"]);
    assert!(matches!(output.status.code(), Some(3 | 4)));
    assert!(text(&output.stdout).contains("there is no process 4194304"));
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let mut shell = Command::new("sh")
        .args(["-c", "\"$0\" doctor; echo $? >&2", env!("CARGO_BIN_EXE_leaktrace")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(shell.stdout.take());
    let output = shell.wait_with_output().unwrap();
    assert!(matches!(text(&output.stderr), "0\n" | "3\n"), "{:?}", text(&output.stderr));
}

#[test]
fn standard_output_that_is_full_is_one() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_leaktrace")).arg("doctor").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: could not write to standard output"));
}
