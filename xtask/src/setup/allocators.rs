//! Allocators that tests preload: Debian's packages, unpacked below `.venv`, not installed.

use super::say;
use crate::step;
use anyhow::{Context as _, Result};
use leak_tests::allocator::{self, Allocator};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const APT_LIMIT: Duration = Duration::from_secs(120);

/// Unpacks what isn't there yet. One that can't be had is said, and its tests are skipped.
pub fn libraries() {
    for allocator in allocator::ALL {
        if allocator.find().is_none()
            && let Err(error) = unpack(&allocator)
        {
            say("allocator", format_args!("{}: {error:#}", allocator.name));
        }
        match allocator.find() {
            Some(path) => say("allocator", format_args!("{}: {}", allocator.name, path.display())),
            None => say(
                "allocator",
                format_args!("{}: can't be had, its tests are skipped", allocator.name),
            ),
        }
    }
}

fn unpack(allocator: &Allocator) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let downloaded = allocator.packages.iter().any(|package| {
        let mut download = Command::new("apt-get");
        download.args(["-qq", "download", package]).current_dir(folder.path());
        step::run_quietly(&mut download, APT_LIMIT).is_ok()
    });
    anyhow::ensure!(downloaded, "apt has none of {}", allocator.packages.join(", "));
    let mut archives = fs::read_dir(folder.path())?.filter_map(|e| Some(e.ok()?.path()));
    let archive: PathBuf = archives.next().context("nothing was downloaded")?;
    let home = allocator::home();
    fs::create_dir_all(&home)?;
    step::run_quietly(Command::new("dpkg").arg("-x").arg(archive).arg(home), APT_LIMIT)
}
