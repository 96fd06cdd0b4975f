//! The interpreters that the tests run on, made ready by `cargo xtask setup`.

use crate::program;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Those with the packages of `requirements.txt`, each in a virtual environment: `pyX.Y` is a plain build
/// (shared and not stripped where it comes from pyenv), `debianX.Y` the distribution's (static, stripped, at
/// a fixed address).
pub const EQUIPPED: [&str; 4] = ["py3.11", "py3.12", "py3.13", "debian3.11"];

/// Those with nothing but the standard library. `sharedX.Y` is Debian's library of it, in a program of our own that
/// does nothing but run it.
pub const BARE: [&str; 8] = [
    "py3.8",
    "py3.9",
    "py3.10",
    "debian3.9",
    "debian3.13",
    "debian3.14",
    "debian3.15",
    "shared3.15",
];

/// Those that `cargo xtask setup --built` builds: without a GIL, and on musl.
pub const BUILT: [&str; 2] = ["py3.13t", "musl3.13"];

/// A Python to run the test programs on.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// One of [`EQUIPPED`] or [`BARE`], or [`BUILT`].
    pub name: &'static str,
    /// Its executable, as its processes see it.
    pub path: PathBuf,
    /// The directory that its processes take for their root: the packages of another release of Debian,
    /// which need that release's C library.
    pub root: Option<PathBuf>,
}

/// The equipped ones that are on this machine, in order.
pub fn all() -> Vec<Interpreter> {
    EQUIPPED.into_iter().filter_map(find).collect()
}

/// The one of this name, if `cargo xtask setup` found it.
pub fn find(name: &str) -> Option<Interpreter> {
    let known = EQUIPPED.into_iter().chain(BARE).chain(BUILT);
    let name = known.into_iter().find(|known| *known == name)?;
    if suite(name).is_some() {
        let path = executable(name);
        let root = home(name);
        let inside = root.join(path.strip_prefix("/").ok()?);
        return inside.exists().then_some(Interpreter { name, path, root: Some(root) });
    }
    let path = home(name).join("bin/python");
    path.exists().then_some(Interpreter { name, path, root: None })
}

/// Where the interpreter of this name is under the root of its release.
pub fn executable(name: &str) -> PathBuf {
    let shared =
        name.strip_prefix("shared").map(|version| format!("/usr/bin/shared-python{version}"));
    shared.unwrap_or_else(|| name.replacen("debian", "/usr/bin/python", 1)).into()
}

/// The release of Debian that a name's interpreter is of, where it is not this machine's.
pub fn suite(name: &str) -> Option<&'static str> {
    match name {
        "debian3.9" => Some("bullseye"),
        "debian3.13" => Some("trixie"),
        "debian3.14" | "debian3.15" | "shared3.15" => Some("forky"),
        _ => None,
    }
}

/// The directory of a name's virtual environment, or of its root; there or not.
pub fn home(name: &str) -> PathBuf {
    root().join(".venv").join(suite(name).unwrap_or(name))
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

impl Interpreter {
    /// A command that runs a program of `programs/`.
    ///
    /// # Errors
    /// If the program can't be brought under the interpreter's root.
    pub fn run(&self, program: &Path) -> Result<Command> {
        let Some(root) = &self.root else {
            let mut command = Command::new(&self.path);
            command.arg(program);
            return Ok(command);
        };
        let folder = Path::new("/programs");
        copy_programs(&root.join("programs"))?;
        let name = program.file_name().context("a program's file")?;
        // In a mount namespace of its own, in which alone its /proc is mounted.
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$@\"",
        ]);
        command.arg(root).arg(&self.path).arg(folder.join(name));
        Ok(command)
    }
}

/// Brings the programs under another root, where they aren't yet. Several tests may do so at once.
fn copy_programs(to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(program::directory())? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let (text, copy) = (fs::read(entry.path())?, to.join(entry.file_name()));
        if fs::read(&copy).is_ok_and(|old| old == text) {
            continue;
        }
        let mut new = tempfile::NamedTempFile::new_in(to)?;
        std::io::Write::write_all(&mut new, &text)?;
        new.persist(&copy)?;
    }
    Ok(())
}
