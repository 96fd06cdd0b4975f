//! Tracepoints are found through tracefs. Where it is not mounted, leaktrace mounts it for itself
//! alone, in a mount namespace of its own: the machine stays as it was.

use std::{fs, path::Path};

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

/// Where the record of `sched_process_fork` holds the child's pid: it moved between kernels.
///
/// # Errors
/// [`ProbeError::TracepointFormat`] where the format does not say.
pub fn fork_child_offset() -> Result<u64, ProbeError> {
    let read =
        |root: &str| fs::read_to_string(format!("{root}/events/sched/sched_process_fork/format"));
    read(MOUNT_POINT)
        .or_else(|_| read("/sys/kernel/debug/tracing"))
        .ok()
        .and_then(|format| field_offset(&format, "child_pid"))
        .ok_or(ProbeError::TracepointFormat("sched_process_fork"))
}

/// Lines read `field:pid_t child_pid; offset:20; size:4; signed:1;`, with tabs between.
fn field_offset(format: &str, field: &str) -> Option<u64> {
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        (declaration.split_whitespace().next_back()? == field).then_some(())?;
        rest.split_once("offset:")?.1.split_once(';')?.0.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::field_offset;

    #[test]
    fn finds_a_field() {
        let format = "name: sched_process_fork\nID: 1\nformat:\n\tfield:unsigned short common_type;\
                      \toffset:0;\tsize:2;\tsigned:0;\n\n\tfield:pid_t child_pid;\toffset:20;\tsize:4;\
                      \tsigned:1;\n";
        assert_eq!(field_offset(format, "child_pid"), Some(20));
        assert_eq!(field_offset(format, "pid"), None);
    }
}
