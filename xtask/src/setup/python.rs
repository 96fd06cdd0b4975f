//! A virtual environment for each interpreter that the test programs run on.

use super::say;
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::interpreter;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PIP_LIMIT: Duration = Duration::from_secs(600);

/// Makes `.venv/NAME` for each of [`interpreter::EQUIPPED`] whose interpreter is on this machine, and an
/// empty one for each of [`interpreter::BARE`].
pub fn environments() -> Result<()> {
    let packages = [step::root().join("tests/requirements.txt")];
    let bare = interpreter::BARE.into_iter().filter(|name| interpreter::suite(name).is_none());
    let equipped = interpreter::EQUIPPED.map(|name| (name, true));
    for (name, with_packages) in equipped.into_iter().chain(bare.map(|name| (name, false))) {
        match base(name) {
            Some(python) if with_packages => environment(name, &python, &packages)?,
            Some(python) => {
                // Nobody needs them all: without one, its tests are skipped.
                if let Err(error) = environment(name, &python, &[]) {
                    say("Python", format_args!("{name}: {error:#}"));
                }
            }
            None => {
                say("Python", format_args!("{name}: not on this machine, its tests are skipped"));
            }
        }
    }
    Ok(())
}

/// Makes `.venv/NAME` with the packages of these files; without any, there is no pip either.
pub(super) fn environment(name: &str, python: &Path, requirements: &[PathBuf]) -> Result<()> {
    let wanted: Vec<String> =
        requirements.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let wanted = wanted.concat();
    let home = interpreter::home(name);
    let stamp = home.join("requirements.txt");
    let ready = fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        && Command::new(home.join("bin/python"))
            .arg("-c")
            .arg("")
            .status()
            .is_ok_and(|s| s.success());
    if !ready {
        say("Python", format_args!("{name}: makes {} with {}", home.display(), python.display()));
        let mut create = Command::new(python);
        create.args(["-m", "venv", "--clear"]).arg(&home);
        if requirements.is_empty() {
            create.arg("--without-pip");
        }
        step::run_quietly(&mut create, PIP_LIMIT).context(
            "can't make a virtual environment; on Debian run `apt-get install python3-venv`",
        )?;
        if !requirements.is_empty() {
            let mut install = Command::new(home.join("bin/python"));
            install.args(["-m", "pip", "install", "--quiet"]);
            for file in requirements {
                install.arg("--requirement").arg(file);
            }
            step::run_quietly(&mut install, PIP_LIMIT)?;
        }
        fs::write(&stamp, wanted)?;
    }
    say("Python", format_args!("{name}: {}", python.display()));
    Ok(())
}

/// The interpreter behind a name: `pyX.Y` is pyenv's or another one on the path, `debianX.Y` the
/// distribution's, which is built otherwise (static, stripped, at a fixed address).
pub(super) fn base(name: &str) -> Option<PathBuf> {
    if let Some(version) = name.strip_prefix("debian") {
        return Some(PathBuf::from(format!("/usr/bin/python{version}")))
            .filter(|path| path.exists());
    }
    let version = name.strip_prefix("py")?;
    let pyenv = std::env::var_os("PYENV_ROOT").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv"),
        PathBuf::from,
    );
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir(pyenv.join("versions"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let patch = path.file_name()?.to_str()?.strip_prefix(version)?.strip_prefix('.')?;
            Some((patch.parse().ok()?, path.join(format!("bin/python{version}"))))
        })
        .collect();
    installed.sort();
    installed.pop().map(|(_, path)| path).or_else(|| on_path(version))
}

/// A `pythonX.Y` on the path that is neither the distribution's nor a shim of pyenv's.
fn on_path(version: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|dir| !dir.ends_with("shims"))
        .map(|dir| dir.join(format!("python{version}")))
        .filter(|path| path.exists())
        .find(|path| fs::canonicalize(path).is_ok_and(|real| !real.starts_with("/usr/bin")))
}
