//! The other tools that leaktrace is measured beside.

use super::{python, say};
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::{self, Interpreter};
use std::process::Command;

/// Makes a virtual environment of an interpreter with memray and objgraph beside the test programs' packages.
///
/// # Errors
/// Where there is no such interpreter, or the packages can't be installed.
pub fn environment(python: &str) -> Result<Interpreter> {
    let Interpreter { name, .. } = interpreter::find(python)
        .with_context(|| format!("{python} isn't one of the tests' interpreters"))?;
    let base = python::base(name).with_context(|| format!("{name} isn't on this machine"))?;
    let tests = step::root().join("tests");
    let files = [tests.join("requirements.txt"), tests.join("peers.txt")];
    let home = format!("peers-{name}");
    python::environment(&home, &base, &files)?;
    let path = interpreter::home(&home).join("bin/python");
    Ok(Interpreter { name, path, root: None })
}

/// Says what is missing of the tools that are no Python packages.
pub fn say_what_is_missing() {
    for (program, package) in [("gdb", "gdb"), ("heaptrack", "heaptrack"), ("bpftrace", "bpftrace")]
    {
        let is_there = Command::new(program).arg("--version").output().is_ok();
        if !is_there {
            say("peer", format_args!("{program}: not here; run `apt-get install {package}`"));
        }
    }
}
