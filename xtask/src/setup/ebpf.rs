//! The compiler and the linker of the eBPF programs.

use super::{say, toolchain};
use crate::step;
use anyhow::{Context as _, Result, anyhow};
use std::process::Command;
use std::time::Duration;

/// Where rustup's server can't be reached, that shall not take long to find out.
const RUSTUP_LIMIT: Duration = Duration::from_secs(240);
const APT_LIMIT: Duration = Duration::from_secs(900);
const CARGO_LIMIT: Duration = Duration::from_secs(900);
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Finds a compiler with the source of its `core`, or installs one: by rustup, else by apt-get.
pub fn toolchain() -> Result<()> {
    let by_hand = || {
        format!(
            "no compiler for the eBPF programs; run `{}`, or on Debian `apt-get install {}` and \
             `rustup toolchain link {} /usr`",
            step::shown(&install_nightly()),
            DEBIAN_PACKAGES.join(" "),
            toolchain::LINKED,
        )
    };
    if toolchain::find().is_err() && toolchain::has_rustup() {
        by_rustup();
    }
    if toolchain::find().is_err() {
        by_apt().with_context(by_hand)?;
    }
    let found = toolchain::find().map_err(|lacking| anyhow!(lacking)).with_context(by_hand)?;
    say("eBPF compiler", format_args!("{} ({})", found.name, found.version));
    Ok(())
}

/// The linker from the Rust registry, in the version that fits the compiler's LLVM.
pub fn linker() -> Result<()> {
    if toolchain::bpf_linker_version().as_deref() != Some(toolchain::BPF_LINKER) {
        let mut install = step::cargo();
        install.args(["install", "bpf-linker", "--version", toolchain::BPF_LINKER, "--locked"]);
        say("eBPF linker", format_args!("runs `{}`", step::shown(&install)));
        step::run_quietly(&mut install, CARGO_LIMIT)?;
    }
    toolchain::bpf_linker_version()
        .context("bpf-linker isn't on the path; put cargo's bin directory there")?;
    say("eBPF linker", format_args!("bpf-linker {}", toolchain::BPF_LINKER));
    Ok(())
}

/// Completes the nightly that is there, else installs one. What fails is said and left to the next way.
fn by_rustup() {
    let mut add_source = Command::new("rustup");
    add_source.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
    let has_nightly = toolchain::is_installed("nightly");
    let ways = has_nightly.then_some(add_source).into_iter().chain([install_nightly()]);
    for mut way in ways {
        say("eBPF compiler", format_args!("runs `{}`", step::shown(&way)));
        way.env("RUSTUP_MAX_RETRIES", "1").env("RUSTUP_DOWNLOAD_TIMEOUT", "30");
        match step::run_quietly(&mut way, RUSTUP_LIMIT) {
            Ok(()) if toolchain::find().is_ok() => return,
            Ok(()) => say("eBPF compiler", "which isn't enough"),
            Err(error) => say("eBPF compiler", reason(&error.to_string())),
        }
    }
}

fn install_nightly() -> Command {
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", toolchain::NIGHTLY]);
    install.args(["--component", "rust-src", "--profile", "minimal"]);
    install
}

/// Debian's compiler, whose package of the library's source matches it, under rustup's roof.
fn by_apt() -> Result<()> {
    let mut update = step::as_root("apt-get");
    update.arg("update");
    let mut install = step::as_root("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(DEBIAN_PACKAGES);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    say("eBPF compiler", format_args!("runs `{}`", step::shown(&install)));
    step::run_quietly(&mut update, APT_LIMIT)?;
    step::run_quietly(&mut install, APT_LIMIT)?;
    if toolchain::has_rustup() {
        let mut link = Command::new("rustup");
        link.args(["toolchain", "link", toolchain::LINKED, "/usr"]);
        step::run_quietly(&mut link, RUSTUP_LIMIT)?;
    }
    Ok(())
}

/// The line of a failed command's output that says why.
fn reason(said: &str) -> &str {
    let mut lines = said.trim().lines();
    lines
        .clone()
        .find(|line| line.starts_with("error:"))
        .or_else(|| lines.next_back())
        .unwrap_or(said)
}
