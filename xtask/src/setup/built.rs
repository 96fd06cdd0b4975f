//! Interpreters that no package is made of, built from the source that Debian has of CPython.
//!
//! Each takes some minutes of two cores, so they are built only when asked for.

use super::{debian, say};
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::interpreter::{self, BUILT};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SUITE: &str = "forky";
const FETCH_LIMIT: Duration = Duration::from_secs(300);
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// The compiler for musl. Debian's names itself after the other C library, and the kernel's headers, which are in no
/// directory of musl's, come after all others.
const MUSL_COMPILER: &str = "#!/bin/sh
case \"$*\" in *--print-multiarch*) exit 0;; esac
exec musl-gcc \"$@\" -idirafter \"$(dirname \"$0\")/kernel\"
";

/// Headers of the kernel's, and where they are.
const KERNEL_HEADERS: [(&str, &str); 3] = [
    ("linux", "/usr/include/linux"),
    ("asm", "/usr/include/x86_64-linux-gnu/asm"),
    ("asm-generic", "/usr/include/asm-generic"),
];

/// Builds those that aren't there yet.
///
/// # Errors
/// What couldn't be fetched or built.
pub fn build() -> Result<()> {
    for name in BUILT {
        if interpreter::find(name).is_none() {
            build_one(name)?;
        }
        let python = interpreter::find(name).context("it was not built")?;
        say("Python", format_args!("{name}: {}", python.path.display()));
    }
    Ok(())
}

fn build_one(name: &str) -> Result<()> {
    let home = interpreter::home(name);
    let folder = tempfile::tempdir()?;
    // `python3.13` of `py3.13t` and of `musl3.13`.
    let package = format!("python{}", name.trim_matches(|c: char| c.is_ascii_alphabetic()));
    say("Python", format_args!("{name}: fetches the source of {package} from {SUITE}"));
    let source = fetch(folder.path(), &package)?;
    // Whole or not at all: what runs it is made last.
    let build = home.join("build");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&build)?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xJf").arg(source).arg("--strip-components=1").arg("-C").arg(&build);
    step::run_quietly(&mut unpack, FETCH_LIMIT)?;
    say("Python", format_args!("{name}: builds it in {}", build.display()));
    let mut settings =
        vec!["LDFLAGS=-Wl,-rpath,'$$ORIGIN'".to_owned(), "--enable-shared".to_owned()];
    if name.ends_with('t') {
        settings.push("--disable-gil".to_owned());
    }
    if name.starts_with("musl") {
        settings.push(format!("CC={}", musl_compiler(&home)?.display()));
        // Libraries of the other C library's are not to be found.
        settings.push("PKG_CONFIG=false".to_owned());
    }
    compile(&build, &settings)?;
    fs::create_dir(home.join("bin"))?;
    Ok(symlink("../build/python", home.join("bin/python"))?)
}

/// Upstream's source, as Debian keeps it.
fn fetch(folder: &Path, package: &str) -> Result<PathBuf> {
    let mirror = debian::mirror().context("no mirror of Debian in apt's sources")?;
    let settings = debian::settings(folder, &format!("deb-src MIRROR {SUITE}"), &mirror)?;
    for arguments in [&["update"][..], &["source", "--download-only", package]] {
        let mut apt = Command::new("apt-get");
        apt.arg("-qq").arg("-c").arg(&settings).args(arguments).current_dir(folder);
        step::run_quietly(&mut apt, FETCH_LIMIT)?;
    }
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(".orig.tar.xz"))
        .context("no source was downloaded")
}

fn musl_compiler(home: &Path) -> Result<PathBuf> {
    let found = Command::new("musl-gcc").arg("--version").output();
    found.context("there is no musl; run `apt-get install musl-tools`")?;
    let headers = home.join("kernel");
    fs::create_dir_all(&headers)?;
    for (name, place) in KERNEL_HEADERS {
        symlink(place, headers.join(name))?;
    }
    let compiler = home.join("musl-cc");
    fs::write(&compiler, MUSL_COMPILER)?;
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755))?;
    Ok(compiler)
}

/// Without optimisation, which takes ten times as long; the program finds its library beside itself.
fn compile(build: &Path, settings: &[String]) -> Result<()> {
    let mut configure = Command::new(build.join("configure"));
    configure.args(["--quiet", "--without-ensurepip", "--disable-test-modules"]).args(settings);
    step::run_quietly(configure.current_dir(build), BUILD_LIMIT)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    step::run_quietly(make.args(["-s", &format!("-j{jobs}")]).current_dir(build), BUILD_LIMIT)
}
