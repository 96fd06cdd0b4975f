//! Other tools that look for memory, and how each is brought to a program.

use anyhow::{Context as _, Result};
use leak_tests::leaktrace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tool, told what to do with a program.
pub struct Tool {
    /// As the table names it.
    pub name: &'static str,
    /// Does it tell which lines or functions allocate?
    pub tells_sites: bool,
    /// How it comes to the program.
    pub way: Way,
}

/// How a tool comes to a program.
pub enum Way {
    /// It doesn't.
    Not,
    /// By a variable of the program's environment.
    Variable(&'static str, &'static str),
    /// It starts the program: arguments of Python before the program's own; `OUT` is a file.
    Launcher(&'static [&'static str]),
    /// It is attached by a command.
    Attach(fn(&Job<'_>) -> Result<Command>),
}

/// What it is attached to.
pub struct Job<'a> {
    /// The process.
    pub pid: u32,
    /// For how many seconds.
    pub seconds: u32,
    /// Where to write.
    pub out: &'a Path,
    /// The Python that has memray.
    pub python: &'a Path,
}

/// What stands for [`Job::out`] in [`Way::Launcher`].
pub const OUT: &str = "OUT";

/// All, the untraced program first.
pub const ALL: [Tool; 11] = [
    Tool { name: "untraced", tells_sites: false, way: Way::Not },
    Tool { name: "leaktrace", tells_sites: true, way: Way::Attach(attach_leaktrace) },
    Tool { name: "leaktrace --exact", tells_sites: true, way: Way::Attach(attach_exact) },
    Tool {
        name: "tracemalloc, 1 frame",
        tells_sites: true,
        way: Way::Variable("PYTHONTRACEMALLOC", "1"),
    },
    Tool {
        name: "tracemalloc, 25 frames",
        tells_sites: true,
        way: Way::Variable("PYTHONTRACEMALLOC", "25"),
    },
    Tool {
        name: "memray run, malloc alone",
        tells_sites: true,
        way: Way::Launcher(&["-m", "memray", "run", "--quiet", "--force", "--output", OUT]),
    },
    Tool {
        name: "memray run",
        tells_sites: true,
        way: Way::Launcher(&[
            "-m",
            "memray",
            "run",
            "--trace-python-allocators",
            "--quiet",
            "--force",
            "--output",
            OUT,
        ]),
    },
    Tool { name: "memray attach", tells_sites: true, way: Way::Attach(attach_memray) },
    Tool { name: "heaptrack, malloc alone", tells_sites: true, way: Way::Attach(attach_heaptrack) },
    Tool { name: "bpftrace, malloc alone", tells_sites: true, way: Way::Attach(attach_bpftrace) },
    Tool { name: "py-spy record", tells_sites: false, way: Way::Attach(attach_py_spy) },
];

fn attach_leaktrace(job: &Job<'_>) -> Result<Command> {
    let mut command = Command::new(leaktrace::binary()?);
    command.args(["--pid", &job.pid.to_string(), "--duration", &format!("{}s", job.seconds)]);
    command.arg("--quiet");
    Ok(command)
}

/// Every allocation, of Python's heap and of the C library's.
fn attach_exact(job: &Job<'_>) -> Result<Command> {
    let mut command = attach_leaktrace(job)?;
    command.arg("--exact");
    Ok(command)
}

fn attach_memray(job: &Job<'_>) -> Result<Command> {
    let mut command = Command::new(job.python);
    command.args(["-m", "memray", "attach", "--trace-python-allocators", "--force", "--output"]);
    command.arg(job.out).arg(job.pid.to_string());
    Ok(command)
}

fn attach_heaptrack(job: &Job<'_>) -> Result<Command> {
    let mut command = Command::new("heaptrack");
    command.arg("--output").arg(job.out);
    command.args(["--pid", &job.pid.to_string()]);
    Ok(command)
}

fn attach_py_spy(job: &Job<'_>) -> Result<Command> {
    let py_spy = leak_tests::py_spy::find().context("py-spy isn't here")?;
    let mut command = Command::new(py_spy);
    command.args(["record", "--format", "raw", "--duration", &job.seconds.to_string(), "--output"]);
    command.arg(job.out).args(["--pid", &job.pid.to_string()]);
    Ok(command)
}

/// What bcc's memleak does: each block with its stack from its malloc to its free.
fn attach_bpftrace(job: &Job<'_>) -> Result<Command> {
    let libc = libc(job.pid)?;
    let libc = libc.display();
    let mut script = String::new();
    for (function, size) in [("malloc", "arg0"), ("calloc", "arg0 * arg1"), ("realloc", "arg1")] {
        script += &format!(
            "uprobe:{libc}:{function} {{ @size[tid] = {size}; }}
             uretprobe:{libc}:{function} /@size[tid]/ {{
                 @bytes[retval] = @size[tid]; @stack[retval] = ustack; delete(@size[tid]);
             }}\n"
        );
    }
    script += &format!(
        "uprobe:{libc}:free /@bytes[arg0]/ {{ delete(@bytes[arg0]); delete(@stack[arg0]); }}\n"
    );
    let mut command = Command::new("bpftrace");
    command.args(["-p", &job.pid.to_string(), "-e", &script]);
    Ok(command)
}

/// The C library that a process has mapped.
fn libc(pid: u32) -> Result<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let paths = maps.lines().filter_map(|line| Some(line.split_once('/')?.1));
    let libc = paths.into_iter().find(|path| path.ends_with("/libc.so.6"));
    Ok(Path::new("/").join(libc.context("no libc.so.6")?))
}
