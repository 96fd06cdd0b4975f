//! What the tests of `heap` and `symbolize` share: memory made up of pieces, and real interpreters.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::target::Pymalloc;
use crate::target::layout::{self, Layout, Obmalloc, PoolLayout};
use crate::target::memory::{Memory, ProcessMemory, ReadError};
use crate::units::{Addr, Pid};

/// Memory in which a word reads as it was before, for so many reads: as if the target was at work on it.
pub(crate) struct Changing {
    before: FakeMemory,
    after: FakeMemory,
    at: u64,
    left: Cell<u32>,
}

impl Changing {
    /// The word at `at`, and whatever is read with it, is that of `before` for the first reads.
    pub(crate) fn new(before: &FakeMemory, after: &FakeMemory, at: u64, left: u32) -> Self {
        Self { before: before.clone(), after: after.clone(), at, left: Cell::new(left) }
    }
}

impl Memory for Changing {
    fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
        let reads_it = addr.0 <= self.at && self.at < addr.0 + out.len() as u64;
        if reads_it && self.left.get() > 0 {
            self.left.set(self.left.get() - 1);
            return self.before.read(addr, out);
        }
        self.after.read(addr, out)
    }
}

/// Memory made up of pieces; what lies between them is not mapped.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeMemory {
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl FakeMemory {
    /// Maps `len` zero bytes.
    pub(crate) fn map(&mut self, addr: u64, len: usize) {
        self.pieces.insert(addr, vec![0; len]);
    }

    /// Writes into a mapped piece.
    pub(crate) fn write(&mut self, addr: u64, bytes: &[u8]) {
        let (start, piece) = self.pieces.range_mut(..=addr).next_back().expect("mapped");
        let at = (addr - start) as usize;
        piece[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes a word.
    pub(crate) fn put(&mut self, addr: u64, word: u64) {
        self.write(addr, &word.to_le_bytes());
    }

    /// Writes half a word.
    pub(crate) fn put_half(&mut self, addr: u64, half: u32) {
        self.write(addr, &half.to_le_bytes());
    }
}

impl Memory for FakeMemory {
    fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
        let bytes = self.pieces.range(..=addr.0).next_back().and_then(|(start, piece)| {
            let at = usize::try_from(addr.0 - start).ok()?;
            piece.get(at..at.checked_add(out.len())?)
        });
        out.copy_from_slice(bytes.ok_or(ReadError::Unmapped(addr))?);
        Ok(())
    }
}

/// The interpreters to test against; those that are absent are named on standard output.
pub(crate) fn interpreters() -> Vec<(PathBuf, &'static Layout)> {
    let pyenv = std::env::var_os("PYENV_ROOT").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv"),
        PathBuf::from,
    );
    let built = [
        ("3.8.18", 8),
        ("3.9.18", 9),
        ("3.10.13", 10),
        ("3.11.7", 11),
        ("3.12.1", 12),
        ("3.13.0", 13),
    ];
    let built = built.map(|(version, minor)| {
        (pyenv.join(format!("versions/{version}/bin/python3.{minor}")), minor)
    });
    let packaged =
        [11, 12, 13].map(|minor| (PathBuf::from(format!("/usr/bin/python3.{minor}")), minor));
    let mut found = Vec::new();
    for (path, minor) in built.into_iter().chain(packaged) {
        if path.exists() {
            found.push((path, layout::layout((3, minor)).expect("a known version")));
        } else {
            println!("skipped: no interpreter at {}", path.display());
        }
    }
    found
}

/// The interpreters that `cargo xtask setup` has put into roots of their own, as paths from `.venv` on; those that are
/// absent are named on standard output.
pub(crate) fn rooted() -> Vec<(PathBuf, &'static Layout)> {
    let home = venv();
    let mut found = Vec::new();
    for (release, minor) in [("bullseye", 9), ("trixie", 13), ("forky", 14), ("forky", 15)] {
        let path = home.join(release).join(format!("usr/bin/python3.{minor}"));
        if path.exists() && nix::unistd::geteuid().is_root() {
            found.push((path, layout::layout((3, minor)).expect("a known version")));
        } else {
            println!("skipped: no interpreter at {}, or no root to enter it", path.display());
        }
    }
    found
}

fn venv() -> PathBuf {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("in a workspace").join(".venv")
}

/// A command that runs an interpreter, in its own root where it has one.
fn command(exe: &std::path::Path) -> Command {
    let Ok(inside) = exe.strip_prefix(venv()) else {
        return Command::new(exe);
    };
    let (release, path) = (inside.iter().next().expect("a release"), inside.iter().skip(1));
    let mut command = Command::new("chroot");
    let path = std::path::Path::new("/").join(path.collect::<PathBuf>());
    command.arg(venv().join(release)).arg(path);
    command
}

/// A Python program that answers on standard output; killed when dropped.
pub(crate) struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// Runs `program` (a file's text) unbuffered, with a fixed locale.
    pub(crate) fn run(exe: &std::path::Path, program: &str) -> Self {
        let mut child = command(exe)
            .args(["-u", "-X", "utf8", "-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter runs");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, output }
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it prints");
        assert!(!line.is_empty(), "the program ended early");
        line.trim_end().to_owned()
    }

    /// The next line as numbers.
    pub(crate) fn numbers(&mut self) -> Vec<u64> {
        self.line().split_whitespace().map(|n| n.parse().expect("a number")).collect()
    }

    /// Sends a line, and flushes it.
    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("open"), "{line}").expect("it reads");
    }

    /// Waits until all of its threads sleep, as they do where they wait for a line.
    pub(crate) fn rest(&self) {
        let sleeps = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
            // After the name, which is in parentheses.
            stat.is_ok_and(|stat| {
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
            })
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        while !std::fs::read_dir(&tasks).expect("it runs").all(sleeps) {
            std::thread::yield_now();
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    pub(crate) fn memory(&self) -> ProcessMemory {
        ProcessMemory::new(self.pid())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Defines `lines_of(code)`: the line of each code unit (None: it has none), as the interpreter itself reads
/// its table, and the table.
pub(crate) const LINES_OF: &str = "
import dis, sys
def lines_of(code):
    if sys.version_info >= (3, 11):
        return [p[0] for p in code.co_positions()], code.co_linetable
    if sys.version_info >= (3, 10):
        starts, table = code.co_lines(), code.co_linetable
    else:
        found, table = list(dis.findlinestarts(code)), code.co_lnotab
        ends = [start for start, _ in found[1:]] + [len(code.co_code)]
        starts = [(start, end, line) for (start, line), end in zip(found, ends)]
    lines = [None] * (len(code.co_code) // 2)
    for start, end, line in starts:
        lines[start // 2 : end // 2] = [line] * ((end - start) // 2)
    return lines, table
";

/// Prints the address of `_PyRuntime`: the first number that [`pymalloc`] takes.
pub(crate) const PRINT_RUNTIME: &str = "
import ctypes
print(ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime')))
";

/// Where pymalloc's state is, given `_PyRuntime`; up to 3.11 by the static symbols of an unstripped
/// build. None, with a line that says so, where they are missing.
pub(crate) fn pymalloc(python: &Python, layout: &Layout, runtime: u64) -> Option<Pymalloc> {
    let memory = python.memory();
    let PoolLayout { pool_size, arena_size } = layout.pools[0];
    let state = |addr: Addr| Pymalloc {
        usedpools: addr,
        arenas: addr.offset(512),
        maxarenas: addr.offset(520),
        usable_arenas: Some(addr.offset(536)),
        pool_size,
        arena_size,
    };
    let interpreter = memory.pointer(Addr(runtime + layout.runtime.interpreters_head)).ok()?;
    match layout.interpreter.obmalloc {
        Obmalloc::Embedded(offset) => Some(state(interpreter.offset(offset))),
        Obmalloc::Pointer(offset) => Some(state(memory.pointer(interpreter.offset(offset)).ok()?)),
        Obmalloc::Statics => {
            let found = static_pymalloc(python.pid(), runtime, layout.pools[0]);
            if found.is_none() {
                println!("skipped: {:?} has no symbols of pymalloc's statics", layout.version);
            }
            found
        }
    }
}

fn static_pymalloc(pid: Pid, runtime: u64, sizes: PoolLayout) -> Option<Pymalloc> {
    use object::{Object, ObjectSymbol};
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libpython3"))?;
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(bytes.as_slice()).ok()?;
    let symbol = |name| file.symbols().find(|s| s.name() == Ok(name)).map(|s| s.address());
    let bias = runtime.wrapping_sub(symbol("_PyRuntime")?);
    let address = |name| symbol(name).map(|addr| Addr(addr.wrapping_add(bias)));
    Some(Pymalloc {
        usedpools: address("usedpools")?,
        arenas: address("arenas")?,
        maxarenas: address("maxarenas")?,
        usable_arenas: address("usable_arenas"),
        pool_size: sizes.pool_size,
        arena_size: sizes.arena_size,
    })
}
