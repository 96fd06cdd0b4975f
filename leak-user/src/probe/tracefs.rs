//! Tracepoints are found through tracefs. Where it is not mounted, leaktrace mounts it for itself
//! alone, in a mount namespace of its own: the machine stays as it was.

use std::path::Path;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::error::ProbeError;

const MOUNT_POINT: &str = "/sys/kernel/tracing";

/// Makes tracefs available to this thread and those that it starts later: to be called before any
/// other thread is.
///
/// # Errors
/// [`ProbeError::NoTracefs`]; needs CAP_SYS_ADMIN where it is not mounted.
pub fn ensure() -> Result<(), ProbeError> {
    if Path::new(MOUNT_POINT).join("events").exists()
        || Path::new("/sys/kernel/debug/tracing/events").exists()
    {
        return Ok(());
    }
    let private = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        // Changes in here must not spread to the machine.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("tracefs"), MOUNT_POINT, Some("tracefs"), MsFlags::empty(), none)
    };
    private().map_err(ProbeError::NoTracefs)
}
