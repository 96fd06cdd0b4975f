//! `cargo xtask test`: every check and test that can be run here, and one line that sums them up.

use crate::{setup, step};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::thread;

/// How a test says that it was left out: `SKIPPED name: reason`.
const SKIPPED: &str = "SKIPPED ";

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs everything, goes on after a failure, and ends with `N passed, N failed, N skipped`.
///
/// # Errors
/// If anything failed.
pub fn run(fast: bool, all: bool) -> Result<()> {
    setup::run()?;
    let leaktrace = step::build_leaktrace()?;
    let mut sum = Counts::default();

    sum.add(&check("format", step::cargo().args(["fmt", "--all", "--check"])));
    let mut clippy = step::cargo();
    clippy.args(["clippy", "--all-targets", "--", "--deny", "warnings"]);
    sum.add(&check("clippy", &mut clippy));

    let mut docs = step::cargo();
    docs.args(["doc", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    sum.add(&check("docs", &mut docs));

    let mut inner = step::cargo();
    inner.args(["test", "--no-fail-fast", "--package", "leak-common", "--package", "leak-user"]);
    sum.add(&tests("unit and property tests", inner.args(["--package", "xtask"]))?);

    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let end_to_end = |targets: &[String], threads: usize| {
        let mut whole = step::cargo();
        whole.args(["test", "--no-fail-fast", "--package", "leak-tests"]).args(targets);
        whole.args(["--", "--test-threads", &threads.to_string()]).env("LEAKTRACE", &leaktrace);
        if fast {
            whole.env("LEAKTRACE_TESTS_FAST", "1");
        }
        if all {
            whole.env("LEAKTRACE_TESTS_ALL", "1");
        }
        tests("end-to-end tests", &mut whole)
    };
    let (trees, others) = targets()?;
    // Most wait for half of their time: for a service's next request, for an observation's end.
    sum.add(&end_to_end(&others, 2 * cores)?);
    // One of these is half a dozen processes at work, and a leaktrace for each, of which one attaches at a time.
    sum.add(&end_to_end(&trees, cores)?);

    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    if sum.failed > 0 {
        bail!("{} failed", sum.failed);
    }
    Ok(())
}

/// The end-to-end tests whose targets are trees of processes.
const TREES: [&str; 2] = ["children", "servers"];

/// Cargo's names for them, and for all other end-to-end tests.
fn targets() -> Result<(Vec<String>, Vec<String>)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(step::root().join("tests/tests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
        }
    }
    names.sort_unstable();
    let (trees, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| TREES.contains(&name.as_str()));
    let named = |names: Vec<String>| names.into_iter().flat_map(|name| ["--test".to_owned(), name]);
    Ok((named(trees).collect(), named(others).chain(["--lib".to_owned()]).collect()))
}

/// A command that counts as one test.
fn check(name: &str, command: &mut Command) -> Counts {
    heading(name, command);
    match step::run(command) {
        Ok(()) => Counts { passed: 1, ..Counts::default() },
        Err(error) => {
            eprintln!("{name}: {error}");
            Counts { failed: 1, ..Counts::default() }
        }
    }
}

/// A `cargo test`: shows its output while it counts.
fn tests(name: &str, command: &mut Command) -> Result<Counts> {
    heading(name, command);
    counted(command, std::io::stdout(), std::io::stderr())
}

fn counted(
    command: &mut Command,
    stdout: impl Write,
    stderr: impl Write + Send + 'static,
) -> Result<Counts> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let errors = child.stderr.take().context("no stderr")?;
    let output = child.stdout.take().context("no stdout")?;
    let errors = thread::spawn(move || pass_on(errors, stderr));
    let mut counts = pass_on(output, stdout)?;
    counts.add(&errors.join().map_err(|_| anyhow::anyhow!("the reader of stderr panicked"))??);
    // libtest counts a test that says it was skipped as passed.
    counts.passed = counts.passed.saturating_sub(counts.skipped);
    if !child.wait()?.success() {
        // A crate that doesn't build, or a test binary that dies, counts nothing itself.
        counts.failed = counts.failed.max(1);
    }
    Ok(counts)
}

fn pass_on(from: impl Read, mut to: impl Write) -> Result<Counts> {
    let mut counts = Counts::default();
    for line in BufReader::new(from).lines() {
        let line = line?;
        writeln!(to, "{line}")?;
        counts.add(&count(&line));
    }
    Ok(counts)
}

/// What a line of `cargo test` adds. Ignored tests come in as passed and as skipped, as those do that
/// say that they were skipped: [`counted`] takes both out of the passed ones.
fn count(line: &str) -> Counts {
    if line.contains(SKIPPED) {
        return Counts { skipped: 1, ..Counts::default() };
    }
    let Some(result) = line.strip_prefix("test result: ") else { return Counts::default() };
    let number = |what: &str| {
        let part = result.split(['.', ';']).map(str::trim).find(|part| part.ends_with(what));
        part.and_then(|part| part.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let ignored = number(" ignored");
    Counts { passed: number(" passed") + ignored, failed: number(" failed"), skipped: ignored }
}

fn heading(name: &str, command: &Command) {
    println!("\n== {name}: {}", step::shown(command));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_line_is_counted() {
        let line =
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out";
        assert_eq!(count(line), Counts { passed: 14, failed: 1, skipped: 2 });
    }

    fn counts_of(script: &str) -> Counts {
        let mut command = Command::new("sh");
        counted(command.args(["-c", script]), std::io::sink(), std::io::sink()).unwrap()
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let script = "echo 'test a ... SKIPPED a: no root' >&2; echo 'test b ... ok'; \
                      echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'";
        assert_eq!(counts_of(script), Counts { passed: 1, failed: 0, skipped: 2 });
    }

    #[test]
    fn a_command_that_dies_uncounted_is_a_failure() {
        assert_eq!(counts_of("exit 101"), Counts { passed: 0, failed: 1, skipped: 0 });
    }
}
