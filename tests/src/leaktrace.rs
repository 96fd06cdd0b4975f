//! Running leaktrace.

use crate::interpreter::root;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// No observation of the tests takes longer; one that does hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// What a run of leaktrace left.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code, or `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error stream.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Outcome {
    /// The report, if standard output is one JSON object.
    ///
    /// # Errors
    /// If it isn't, with all that leaktrace said.
    pub fn report(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no report: {self:?}"))
    }
}

/// A leaktrace at work, killed when dropped.
#[derive(Debug)]
pub struct Leaktrace {
    child: Child,
    started: Instant,
    readers: Option<[JoinHandle<String>; 2]>,
}

/// The binary under test: `$LEAKTRACE`, else the newest that was built here.
///
/// # Errors
/// If there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LEAKTRACE") {
        return Ok(PathBuf::from(path));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("leaktrace"));
    let newest = built
        .into_iter()
        .filter(|path| path.exists())
        .max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
    newest.context("leaktrace isn't built; run `cargo build --package leak-user`, or set LEAKTRACE")
}

/// Runs leaktrace with these arguments to its end.
///
/// # Errors
/// If it can't be run or hangs.
pub fn run(args: &[&str]) -> Result<Outcome> {
    Leaktrace::start(Command::new(binary()?).args(args))?.wait()
}

/// Observes a process for some seconds and returns the outcome, with the report as JSON on its output.
///
/// # Errors
/// As [`run`].
pub fn observe(pid: u32, seconds: u32) -> Result<Outcome> {
    observe_with(pid, seconds, &[])
}

/// The same with more arguments.
///
/// # Errors
/// As [`run`].
pub fn observe_with(pid: u32, seconds: u32, args: &[&str]) -> Result<Outcome> {
    let (pid, duration) = (pid.to_string(), format!("{seconds}s"));
    let usual = ["--pid", &pid, "--duration", &duration, "--format", "json"];
    run(&[&usual, args].concat())
}

impl Leaktrace {
    /// Starts a command that is, or becomes, leaktrace.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {command:?}"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let readers = Some([read_all(stdout), read_all(stderr)]);
        Ok(Self { child, started: Instant::now(), readers })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of its own that are resident, without its helpers'.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.context("no RssAnon")?.trim().trim_end_matches(" kB");
        Ok(kilobytes.parse::<u64>()? << 10)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it doesn't end within three minutes.
    pub fn wait(mut self) -> Result<Outcome> {
        // The pipes close when it ends, so that waiting for the readers is waiting for it; the thread
        // only watches the time.
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let (ended, watch) = channel::<()>();
        let watchdog = thread::spawn(move || {
            let hangs = watch.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
            if hangs {
                // If it ended just now, so much the better.
                let _ = kill(pid, Signal::SIGKILL);
            }
            hangs
        });
        let [stdout, stderr] = self.readers.take().context("waited for before")?;
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        let status = self.child.wait()?;
        drop(ended);
        if watchdog.join().unwrap_or(true) {
            bail!("leaktrace hangs\n{stdout}\n{stderr}");
        }
        Ok(Outcome { code: status.code(), stdout, stderr, took: self.started.elapsed() })
    }
}

impl Drop for Leaktrace {
    fn drop(&mut self) {
        // Most have ended by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
