//! The interpreters that the tests run on: one virtual environment each, made by `cargo xtask setup`.

use std::path::{Path, PathBuf};

/// Their names: `pyX.Y` is a plain build (shared and not stripped where it comes from pyenv),
/// `debianX.Y` the distribution's (static, stripped, at a fixed address).
pub const NAMES: [&str; 4] = ["py3.11", "py3.12", "py3.13", "debian3.11"];

/// A Python with the packages of `requirements.txt`.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// Its executable in the virtual environment.
    pub path: PathBuf,
}

/// Those that are on this machine, in the order of [`NAMES`].
pub fn all() -> Vec<Interpreter> {
    NAMES.into_iter().filter_map(find).collect()
}

/// The one of this name, if `cargo xtask setup` found it.
pub fn find(name: &str) -> Option<Interpreter> {
    let name = NAMES.into_iter().find(|known| *known == name)?;
    let path = home(name).join("bin/python");
    path.exists().then_some(Interpreter { name, path })
}

/// The directory of a name's virtual environment, there or not.
pub fn home(name: &str) -> PathBuf {
    root().join(".venv").join(name)
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
