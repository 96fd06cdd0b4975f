//! A CPython without a GIL, built from the source that Debian has of it: no package is made of one.
//!
//! It takes some minutes of two cores, so it is done only when asked for.

use super::{debian, say};
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::{self, FREE_THREADED};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SUITE: &str = "forky";
const FETCH_LIMIT: Duration = Duration::from_secs(300);
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// Builds what isn't there yet.
///
/// # Errors
/// What couldn't be fetched or built.
pub fn build() -> Result<()> {
    if interpreter::find(FREE_THREADED).is_none() {
        let home = interpreter::home(FREE_THREADED);
        let folder = tempfile::tempdir()?;
        say("Python", format_args!("{FREE_THREADED}: fetches its source from {SUITE}"));
        let source = fetch(folder.path())?;
        // Whole or not at all: what runs it is made last.
        let build = home.join("build");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&build)?;
        let mut unpack = Command::new("tar");
        unpack.arg("-xJf").arg(source).arg("--strip-components=1").arg("-C").arg(&build);
        step::run_quietly(&mut unpack, FETCH_LIMIT)?;
        say("Python", format_args!("{FREE_THREADED}: builds it in {}", build.display()));
        compile(&build)?;
        fs::create_dir(home.join("bin"))?;
        std::os::unix::fs::symlink("../build/python", home.join("bin/python"))?;
    }
    let python = interpreter::find(FREE_THREADED).context("it was not built")?;
    say("Python", format_args!("{FREE_THREADED}: {}", python.path.display()));
    Ok(())
}

/// Upstream's source, as Debian keeps it.
fn fetch(folder: &Path) -> Result<PathBuf> {
    let mirror = debian::mirror().context("no mirror of Debian in apt's sources")?;
    let settings = debian::settings(folder, &format!("deb-src MIRROR {SUITE}"), &mirror)?;
    let package = FREE_THREADED.replacen("py", "python", 1);
    for arguments in
        [&["update"][..], &["source", "--download-only", package.trim_end_matches('t')]]
    {
        let mut apt = Command::new("apt-get");
        apt.arg("-qq").arg("-c").arg(&settings).args(arguments).current_dir(folder);
        step::run_quietly(&mut apt, FETCH_LIMIT)?;
    }
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(".orig.tar.xz"))
        .context("no source was downloaded")
}

/// Without optimisation, which takes ten times as long; the program finds its library beside itself.
fn compile(build: &Path) -> Result<()> {
    let mut configure = Command::new(build.join("configure"));
    configure.args(["--disable-gil", "--enable-shared", "--without-ensurepip"]);
    configure.args(["--disable-test-modules", "LDFLAGS=-Wl,-rpath,'$$ORIGIN'"]);
    step::run_quietly(configure.arg("--quiet").current_dir(build), BUILD_LIMIT)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    step::run_quietly(make.args(["-s", &format!("-j{jobs}")]).current_dir(build), BUILD_LIMIT)
}
