//! Releases of packages that leak, and those that don't any more, for the zoo's programs that show them.

use super::{python, say};
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::Interpreter;
use leak_tests::zoo::{Specimen, Variant};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PIP_LIMIT: Duration = Duration::from_secs(600);

/// Installs what a specimen's variant needs into a folder of its own, if it isn't there yet.
///
/// # Errors
/// Where a package can't be had.
pub fn packages(specimen: &Specimen, variant: Variant, python: &Interpreter) -> Result<()> {
    let Some(requirements) = specimen.requirements(variant) else { return Ok(()) };
    let folder = specimen.packages(variant);
    let stamp = folder.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    say("zoo", format_args!("{}: installs {}", specimen.name, folder.display()));
    install(python, &requirements, &folder)?;
    Ok(fs::write(stamp, wanted)?)
}

/// By the interpreter's own pip, or its base's.
fn install(interpreter: &Interpreter, requirements: &Path, folder: &Path) -> Result<()> {
    let base = python::base(interpreter.name)
        .with_context(|| format!("{} isn't on this machine", interpreter.name))?;
    let mut install = Command::new(base);
    install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]);
    step::run_quietly(install.arg("--target").arg(folder).arg("-r").arg(requirements), PIP_LIMIT)
}
