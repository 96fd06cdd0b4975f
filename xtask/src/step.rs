//! Starting other programs, and what they all share.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that runs us, in the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the release binary of leaktrace and returns its path.
pub fn build_leaktrace() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "leak-user"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release/leaktrace"))
}

/// A command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end.
///
/// # Errors
/// The command line, if it couldn't be started or failed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("can't run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command quietly; shows what it said only if it failed. Ends it after `limit`.
///
/// # Errors
/// The command line and what it said, if it couldn't be started, failed or took too long.
pub fn run_quietly(command: &mut Command, limit: Duration) -> Result<()> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't run `{}`", shown(command)))?;
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = wait.recv_timeout(limit) else {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
        bail!("`{}` took longer than {} s", shown(command), limit.as_secs());
    };
    let output = output?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        bail!("`{}` failed ({})\n{}", shown(command), output.status, said.trim());
    }
    Ok(())
}

/// Is this process root's?
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs with root's rights: as it is, or through sudo.
pub fn as_root(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}
