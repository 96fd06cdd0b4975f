//! What a process takes, second by second.

use super::statistics;
use anyhow::{Result, bail};
use procfs::process::Process;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// Between two samples of [`resident`].
pub const SECOND: Duration = Duration::from_secs(1);

/// From this second on, an observation has settled.
pub const SETTLED: usize = 10;

/// What a process had taken at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Of itself and the processes that it has started, in seconds.
    pub processor: f64,
    /// Shared libraries included.
    pub resident_kb: f64,
    /// The most that it ever was.
    pub peak_kb: f64,
}

/// Looks every so often until it has ended.
///
/// # Errors
/// If it fails.
pub fn watch(leaktrace: &mut Child, pause: Duration) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    loop {
        // Before it is waited for, what it leaves can still be read.
        let sample = sample(leaktrace.id());
        if let Some(status) = leaktrace.try_wait()? {
            if !status.success() {
                bail!("leaktrace failed: {status}");
            }
            return Ok(samples);
        }
        samples.extend(sample);
        thread::sleep(pause);
    }
}

/// None: it has ended.
fn sample(pid: u32) -> Option<Sample> {
    let at = Instant::now();
    let process = Process::new(pid.cast_signed()).ok()?;
    let status = process.status().ok()?;
    let helpers = process.task_main_thread().ok()?.children().ok()?;
    let helpers =
        helpers.into_iter().filter_map(|pid| ticks(&Process::new(pid.cast_signed()).ok()?));
    let ticks = ticks(&process)? + helpers.sum::<u64>();
    let processor = ticks as f64 / procfs::ticks_per_second() as f64;
    let (resident_kb, peak_kb) = (status.vmrss? as f64, status.vmhwm? as f64);
    Some(Sample { at, processor, resident_kb, peak_kb })
}

/// Of the process and its children that it has waited for.
fn ticks(process: &Process) -> Option<u64> {
    let stat = process.stat().ok()?;
    Some(stat.utime + stat.stime + (stat.cutime + stat.cstime).max(0).cast_unsigned())
}

/// What was resident in the ten seconds from one on: the median, in kB.
pub fn resident(samples: &[Sample], from: usize) -> f64 {
    let seconds = samples.iter().skip(from).take(10);
    let mut seconds: Vec<f64> = seconds.map(|sample| sample.resident_kb).collect();
    statistics::median(&mut seconds).unwrap_or(0.0)
}

/// As a table shows it.
pub fn mib(kb: f64) -> String {
    format!("{:.1} MiB", kb / 1024.0)
}
