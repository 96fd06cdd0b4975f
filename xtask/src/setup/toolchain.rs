//! Which compiler builds the eBPF programs. `leak-user/build.rs` includes this file too, so that
//! set-up and build can't disagree.
//!
//! The BPF crate needs three things that fit each other: a compiler that accepts unstable options,
//! the source of its own `core`, and the LLVM that `bpf-linker` loads. A nightly with `rust-src` has
//! all of it; so has a distribution's stable compiler with its source package, once
//! `RUSTC_BOOTSTRAP=1` lets it use unstable options.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of `bpf-linker` that set-up installs. It reads bitcode up to [`LLVM_MAJOR`].
pub const BPF_LINKER: &str = "0.10.3";
/// The LLVM that [`BPF_LINKER`] understands: newer compilers emit bitcode that it can't read.
pub const LLVM_MAJOR: &str = "22";
/// The nightly that set-up installs where it can: the last one tried that emits LLVM 22.
pub const NIGHTLY: &str = "nightly-2026-05-20";
/// The name under which set-up links a distribution's compiler into rustup.
pub const LINKED: &str = "leaktrace-ebpf";
/// Names a rustup toolchain to use, and no other.
pub const OVERRIDE: &str = "LEAKTRACE_EBPF_TOOLCHAIN";

/// A compiler that can build the eBPF programs.
#[derive(Debug)]
pub struct Toolchain {
    /// Its name for `rustup run`; where there is no rustup, what `rustc` on the path is.
    pub name: String,
    /// Is it a stable compiler, which needs `RUSTC_BOOTSTRAP=1`?
    pub bootstrap: bool,
    /// The shared LLVM library for `bpf-linker`.
    pub llvm: PathBuf,
    /// The first line of `rustc -vV`.
    pub version: String,
}

/// Finds the first toolchain that can build the eBPF programs.
///
/// # Errors
/// What each candidate lacks, one line each.
pub fn find() -> Result<Toolchain, String> {
    if let Some(name) = env::var_os(OVERRIDE).filter(|name| !name.is_empty()) {
        return examine(&name.to_string_lossy(), true);
    }
    if !has_rustup() {
        return examine("rustc", false);
    }
    let mut lacking = Vec::new();
    for name in ["nightly", NIGHTLY, LINKED] {
        match examine(name, true) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => lacking.push(why),
        }
    }
    Err(lacking.join("\n"))
}

/// Is there a rustup on the path?
pub fn has_rustup() -> bool {
    output(Command::new("rustup").arg("--version")).is_some()
}

/// Does rustup have a toolchain of this name?
pub fn is_installed(name: &str) -> bool {
    output(Command::new("rustup").args(["run", name, "rustc", "-vV"])).is_some()
}

/// What the `bpf-linker` on the path says of its version, or `None` where there is none.
pub fn bpf_linker_version() -> Option<String> {
    let said = output(Command::new("bpf-linker").arg("--version"))?;
    said.split_whitespace().nth(1).map(str::to_owned)
}

fn examine(name: &str, rustup: bool) -> Result<Toolchain, String> {
    let rustc = |args: &[&str]| {
        let mut command = if rustup { Command::new("rustup") } else { Command::new("rustc") };
        if rustup {
            command.args(["run", name, "rustc"]);
        }
        output(command.args(args))
    };
    let about = rustc(&["-vV"]).ok_or_else(|| format!("{name}: not installed"))?;
    let sysroot = rustc(&["--print", "sysroot"]).ok_or_else(|| format!("{name}: no sysroot"))?;
    let sysroot = Path::new(sysroot.trim());
    let field = |key: &str| about.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("");

    let llvm = field("LLVM version: ");
    if llvm.split('.').next() != Some(LLVM_MAJOR) {
        return Err(format!("{name}: has LLVM {llvm}, bpf-linker needs LLVM {LLVM_MAJOR}"));
    }
    if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() {
        return Err(format!("{name}: lacks the source of the standard library (rust-src)"));
    }
    let libraries = [sysroot.join("lib"), sysroot.join("lib").join(multiarch(field("host: ")))];
    let llvm = libraries
        .iter()
        .find_map(|dir| shared_llvm(dir))
        .ok_or_else(|| format!("{name}: no shared LLVM {LLVM_MAJOR} in {}", sysroot.display()))?;
    Ok(Toolchain {
        name: name.to_owned(),
        bootstrap: !field("release: ").contains("nightly"),
        llvm,
        version: about.lines().next().unwrap_or("").to_owned(),
    })
}

/// Debian's name for the directory of a host's libraries: `x86_64-linux-gnu`.
fn multiarch(host: &str) -> String {
    host.replace("-unknown", "")
}

/// The LLVM of the right version in a directory: an ELF file, since a linker script of like name may
/// lie beside it.
fn shared_llvm(dir: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(is_our_llvm))
        .filter(|path| is_elf(path))
        .collect();
    found.sort();
    found.into_iter().next()
}

/// `libLLVM-22.so`, `libLLVM.so.22.1`, `libLLVM-22-rust-1.97.0-nightly.so`.
fn is_our_llvm(name: &str) -> bool {
    let version = name.strip_prefix("libLLVM.so.").or_else(|| name.strip_prefix("libLLVM-"));
    version.and_then(|v| v.split(['.', '-']).next()) == Some(LLVM_MAJOR)
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
