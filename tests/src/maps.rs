//! What probes leave behind in a process: breakpoints in its code.

use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// How often the kernel says that it has lost a uprobe: its breakpoint stays in the code of a process for good.
///
/// # Errors
/// If the kernel's log can't be read.
pub fn lost_uprobes() -> Result<usize> {
    let log = Command::new("dmesg").output().context("can't run dmesg")?;
    ensure!(log.status.success(), "dmesg: {}", String::from_utf8_lossy(&log.stderr));
    let text = String::from_utf8_lossy(&log.stdout);
    Ok(text.lines().filter(|line| line.contains("leaking uprobe")).count())
}

/// The places where the code in a process's memory differs from the files that it was loaded from. A
/// uprobe is such a place, since the kernel writes a breakpoint there.
///
/// # Errors
/// If the process has ended or may not be read.
pub fn altered_code(pid: u32) -> Result<Vec<String>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut altered = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, "r-xp", offset, _device, _inode, path] = fields[..] else { continue };
        if !path.starts_with('/') {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let offset = u64::from_str_radix(offset, 16)?;
        let length = usize::try_from(end - start)?;

        let mut loaded = vec![0; length];
        memory.read_exact_at(&mut loaded, start)?;
        // The last page may reach over the end of the file, where memory holds zeros.
        let mut original = vec![0; length];
        let file = File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}"))?;
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut original[filled..], offset + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        // Page by page first: slices compare fast, and breakpoints may be there for milliseconds only.
        let pages = loaded.chunks(PAGE).zip(original.chunks(PAGE)).enumerate();
        for (page, (loaded, original)) in pages.filter(|(_, (loaded, original))| loaded != original)
        {
            let bytes = loaded.iter().zip(original).enumerate();
            altered.extend(bytes.filter(|(_, (now, was))| now != was).map(|(at, (now, was))| {
                let at = offset + (page * PAGE + at) as u64;
                format!("{path}+{at:#x}: {was:#04x} became {now:#04x}")
            }));
        }
    }
    Ok(altered)
}

/// Waits until probes are in a process's code: a burst has begun.
///
/// # Errors
/// As [`altered_code`], and if none comes within a minute.
pub fn await_probe(pid: u32) -> Result<()> {
    await_probe_in(pid, "")
}

/// The same in a file whose path has this in it.
///
/// # Errors
/// As [`await_probe`].
pub fn await_probe_in(pid: u32, file: &str) -> Result<()> {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !altered_code(pid)?.iter().any(|place| place.contains(file)) {
        ensure!(Instant::now() < give_up, "{pid} was not probed within a minute");
    }
    Ok(())
}
