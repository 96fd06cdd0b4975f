//! The kernel that leaktrace runs on: where it keeps a thread's fs base, and what it can't do safely.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use leak_common::tree::TaskConfig;

use super::btf::Btf;
use super::process::{self, status_field};
use crate::units::Pid;

/// A kernel can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No BTF.
    #[error(
        "can't read the kernel's type information at /sys/kernel/btf/vmlinux: {0} \
         (needs a kernel built with CONFIG_DEBUG_INFO_BTF)"
    )]
    Btf(#[from] io::Error),
    /// BTF without the field.
    #[error("the kernel's type information lacks {structure}.{member} (needs an x86-64 kernel)")]
    NoMember {
        /// The structure.
        structure: &'static str,
        /// Its member.
        member: &'static str,
    },
}

/// Where the running kernel keeps what is asked of a task, offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLayout {
    /// `task_struct.thread.fsbase`.
    pub fsbase: u64,
    /// `task_struct.pid`, `.tgid`, `.mm`, `.signal`, and `signal_struct.live`.
    pub fields: TaskConfig,
}

/// The running kernel's layout of a task; read once.
///
/// # Errors
/// [`KernelError`].
pub fn task_layout() -> Result<TaskLayout, KernelError> {
    static KNOWN: OnceLock<TaskLayout> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let btf = Btf::kernel()?;
    let offset = |structure, member| {
        btf.member_offset(structure, member).ok_or(KernelError::NoMember { structure, member })
    };
    let fields = TaskConfig {
        pid: offset("task_struct", "pid")?,
        tgid: offset("task_struct", "tgid")?,
        mm: offset("task_struct", "mm")?,
        signal: offset("task_struct", "signal")?,
        live: offset("signal_struct", "live")?,
    };
    let fsbase = offset("task_struct", "thread")? + offset("thread_struct", "fsbase")?;
    Ok(*KNOWN.get_or_init(|| TaskLayout { fsbase, fields }))
}

/// `6.18`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRelease {
    /// 6.
    pub major: u32,
    /// 18.
    pub minor: u32,
}

impl KernelRelease {
    /// The running kernel's.
    ///
    /// # Errors
    /// Where `/proc` does not tell.
    pub fn running() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown kernel release"))
    }

    /// From `6.18.44-generic`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers =
            text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()?? })
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Could a return probe kill the target, as things are now?
///
/// From 6.11 on, x86-64 kernels return from a return probe through a system call, which a seccomp
/// filter answers by killing the process; 6.14 lets it pass. Some stable kernels in between have the
/// fix, which can't be told from outside. Each thread has filters of its own; where one's are not known, it
/// counts as filtered.
#[must_use]
pub fn uretprobe_hazard(pid: Pid) -> bool {
    let returns_by_call = KernelRelease::running().map_or(true, KernelRelease::returns_by_call);
    returns_by_call && is_filtered(process::task_statuses(pid))
}

impl KernelRelease {
    fn returns_by_call(self) -> bool {
        let release = |minor| Self { major: 6, minor };
        (release(11)..release(14)).contains(&self)
    }
}

fn is_filtered(mut threads: impl Iterator<Item = String>) -> bool {
    threads.any(|status| status_field(&status, "Seccomp") != Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let parsed = |text| KernelRelease::parse(text).map(|release| release.to_string());
        assert_eq!(parsed("6.18.44-generic\n").as_deref(), Some("6.18"));
        assert_eq!(parsed("5.15.0").as_deref(), Some("5.15"));
        assert_eq!(parsed("6.12-rc1").as_deref(), Some("6.12"));
        assert_eq!(parsed("linux"), None);
        assert_eq!(parsed("6"), None);
        assert!(KernelRelease::running().expect("a release").major >= 4);
    }

    #[test]
    fn return_probes_are_dangerous_on_few_kernels_and_under_seccomp() {
        let by_call = |major, minor| KernelRelease { major, minor }.returns_by_call();
        assert_eq!([10, 11, 13, 14].map(|minor| by_call(6, minor)), [false, true, true, false]);
        assert!(!by_call(7, 12));
        let filtered = |threads: &[&str]| is_filtered(threads.iter().map(ToString::to_string));
        assert!(filtered(&["Seccomp:\t0\n", "Seccomp:\t2\n"]), "one thread is enough");
        assert!(filtered(&["Seccomp:\t1\n"]));
        assert!(filtered(&[""]), "not known");
        assert!(!filtered(&["Seccomp:\t0\n"; 2]));
    }

    #[test]
    fn the_running_kernel_has_an_fs_base() {
        match task_layout().map(|task| task.fsbase) {
            Ok(offset) => {
                assert_eq!(offset % 8, 0);
                assert!((1024..32768).contains(&offset), "{offset}");
            }
            Err(KernelError::Btf(e)) if e.kind() == io::ErrorKind::NotFound => {
                println!("skipped: the kernel publishes no BTF");
            }
            Err(e) => panic!("{e}"),
        }
    }
}
