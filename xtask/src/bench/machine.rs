//! Names the machine that a figure comes from.

use std::fs;

/// Kernel, processor and cores: `Linux 6.18.5, Some CPU @ 2.10GHz, 2 cores`.
pub fn describe() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|rest| rest.split_once(':')).map_or("unknown CPU", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {}, {cores} cores", release.trim(), model.trim())
}
