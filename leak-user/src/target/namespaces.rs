//! Namespaces: by which id the kernel's programs know the target, and whether leaktrace's own rights count.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::error::TargetError;
use super::process::{self, proc_path};
use crate::units::Pid;

/// Inode of the initial pid namespace, the same on every machine (`PROC_PID_INIT_INO`).
const INITIAL_PIDS: u64 = 0xefff_fffc;
/// Of the initial user namespace (`PROC_USER_INIT_INO`).
const INITIAL_USERS: u64 = 0xefff_fffd;

/// By which id the kernel's programs know a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelId {
    /// Its thread group id in the initial pid namespace, or in `namespace`.
    pub tgid: u32,
    /// Its own pid namespace, where leaktrace is not in the initial one and so can't know its id there.
    pub namespace: Option<Namespace>,
}

/// A namespace, as the kernel tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    /// Device number of its file.
    pub device: u64,
    /// Inode number of its file.
    pub inode: u64,
}

/// Finds it. `status` is the text of `/proc/PID/status`.
///
/// # Errors
/// [`TargetError::ForeignProc`], [`TargetError::Forbidden`], [`TargetError::NoSuchProcess`].
pub fn kernel_id(pid: Pid, status: &str) -> Result<KernelId, TargetError> {
    // The ids in /proc are those of the namespace that it was mounted in, those of system calls are
    // leaktrace's own.
    let own = fs::read_link("/proc/self");
    if !own.is_ok_and(|link| link == Path::new(&std::process::id().to_string())) {
        return Err(TargetError::ForeignProc);
    }
    if namespace("/proc/self/ns/pid").is_ok_and(|own| own.inode == INITIAL_PIDS) {
        return Ok(KernelId { tgid: pid.0, namespace: None });
    }
    let theirs = namespace(proc_path(pid, "ns/pid"));
    let theirs = theirs.map_err(|e| TargetError::proc(pid, "ns/pid", e))?;
    let tgid = process::inner_id(status).unwrap_or(pid.0);
    Ok(KernelId { tgid, namespace: Some(theirs) })
}

/// Is this process in the initial user namespace? Elsewhere its capabilities don't count for eBPF.
#[must_use]
pub fn has_initial_users() -> bool {
    // Kernels without user namespaces have no such file.
    namespace("/proc/self/ns/user").map_or(true, |own| own.inode == INITIAL_USERS)
}

fn namespace(path: impl AsRef<Path>) -> io::Result<Namespace> {
    let file = fs::metadata(path)?;
    Ok(Namespace { device: file.dev(), inode: file.ino() })
}
