//! A Python program to trace, which ends when its owner is dropped.

use crate::interpreter::Interpreter;
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running program that has said it is ready.
#[derive(Debug)]
pub struct Target {
    child: Child,
    lines: Receiver<String>,
    ready: String,
}

impl Target {
    /// Starts `program` and waits for its line that begins with `ready`.
    ///
    /// It runs in a process group of its own, so that Ctrl-C on the terminal doesn't reach it, and with
    /// a fixed hash seed, so that two runs can be compared.
    ///
    /// # Errors
    /// If it can't be started, ends, or isn't ready within a minute.
    pub fn start(python: &Interpreter, program: &Path, args: &[&str]) -> Result<Self> {
        let mut command = python.run(program)?;
        Self::spawn(command.args(args))
    }

    /// Starts any command and waits for its line that begins with `ready`.
    ///
    /// # Errors
    /// As [`Target::start`].
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .env("PYTHONHASHSEED", "0")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {command:?}"))?;
        let output = child.stdout.take().context("no stdout")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut target = Self { child, lines, ready: String::new() };
        target.ready = target.line(START_LIMIT).with_context(|| format!("{command:?}"))?;
        if !target.ready.starts_with("ready") {
            bail!("{command:?} isn't ready but says {:?}", target.ready);
        }
        Ok(target)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said behind `ready`.
    pub fn ready(&self) -> &str {
        self.ready.trim_start_matches("ready").trim()
    }

    /// The next line of its standard output.
    ///
    /// # Errors
    /// If none comes in time, or the program has ended.
    pub fn line(&mut self, limit: Duration) -> Result<String> {
        self.lines.recv_timeout(limit).context("the program said nothing more")
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// If it has closed it.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("no stdin")?;
        Ok(input.write_all(text.as_bytes())?)
    }

    /// Has it ended, and how?
    ///
    /// # Errors
    /// If the system can't say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it and all that it has started in its process group, and waits for its end.
    ///
    /// # Errors
    /// If it isn't ours to kill any more.
    pub fn kill(&mut self) -> Result<()> {
        // Its workers would run on, and slow down whatever is tested next.
        match killpg(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and that is well.
        let _ = self.kill();
    }
}
