//! Resident memory from `/proc/PID`: RSS from `status` (cheap), PSS from `smaps_rollup` (walks the
//! page tables, so asked for rarely).

use std::{fs, io};

use crate::units::{Bytes, Nanos, Pid};

/// Resident memory by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub rss: Bytes,
    /// Anonymous.
    pub anonymous: Bytes,
    /// Of files.
    pub file: Bytes,
    /// Shared.
    pub shared: Bytes,
}

/// Reads RSS and its parts.
///
/// # Errors
/// An I/O error where the process has ended (its status can't be read, or has no memory lines).
pub fn read(pid: Pid) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse(&status).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process has ended"))
}

fn parse(status: &str) -> Option<Usage> {
    let field = |name| kilobytes(status, name);
    Some(Usage {
        rss: field("VmRSS:")?,
        anonymous: field("RssAnon:")?,
        file: field("RssFile:")?,
        shared: field("RssShmem:")?,
    })
}

fn kilobytes(text: &str, name: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(Bytes(kilobytes.saturating_mul(1024)))
}

/// The proportional share: pages that several processes map are divided among them.
///
/// # Errors
/// An I/O error where the process has ended or the kernel is older than 4.14.
pub fn proportional(pid: Pid) -> io::Result<Bytes> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kilobytes(&rollup, "Pss:")
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process has ended"))
}

/// How long the kernel will keep the process from mapping memory while it counts the proportional share:
/// it walks the page tables under the memory map's lock, some 35 ns a page.
#[must_use]
pub fn proportional_hold(rss: Bytes) -> Nanos {
    const NANOS_A_PAGE: u64 = 35;
    Nanos(rss.0 / 4096 * NANOS_A_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let pid = Pid(std::process::id());
        let usage = read(pid).unwrap();
        let parts = usage.anonymous.0 + usage.file.0 + usage.shared.0;
        assert!(usage.anonymous.0 > 0 && parts.abs_diff(usage.rss.0) < 1 << 20, "{usage:?}");
        assert!(proportional(pid).unwrap().0 > 0);
        assert!(proportional_hold(Bytes(1 << 30)).0 > proportional_hold(Bytes(1 << 20)).0);
    }

    #[test]
    fn a_kernel_thread_has_none() {
        assert_eq!(parse("Name:\tkthreadd\nState:\tS (sleeping)\n"), None);
    }
}
