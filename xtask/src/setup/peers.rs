//! The other tools that leaktrace is measured beside.

use super::{python, say};
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::{self, Interpreter};
use std::process::Command;

/// The interpreter that they are measured on.
const PYTHON: &str = "py3.11";

/// Makes a virtual environment with memray beside the test programs' packages, and says what is missing of the tools
/// that are no Python packages.
///
/// # Errors
/// Where there is no such interpreter, or the packages can't be installed.
pub fn environment() -> Result<Interpreter> {
    let base = python::base(PYTHON).with_context(|| format!("{PYTHON} isn't on this machine"))?;
    let tests = step::root().join("tests");
    let files = [tests.join("requirements.txt"), tests.join("peers.txt")];
    let name = format!("peers-{PYTHON}");
    python::environment(&name, &base, &files)?;
    for (program, package) in [("gdb", "gdb"), ("heaptrack", "heaptrack"), ("bpftrace", "bpftrace")]
    {
        let is_there = Command::new(program).arg("--version").output().is_ok();
        if !is_there {
            say("peer", format_args!("{program}: not here; run `apt-get install {package}`"));
        }
    }
    let path = interpreter::home(&name).join("bin/python");
    Ok(Interpreter { name: PYTHON, path, root: None })
}
