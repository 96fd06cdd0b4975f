//! The kernel that leaktrace runs on: where it keeps a thread's fs base, and what it can't do safely.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use leak_common::tree::TaskConfig;

use super::btf::Btf;
use super::process::status_field;

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

/// Could a return probe kill the target?
///
/// From 6.11 on, x86-64 kernels return from a return probe through a system call, which a seccomp
/// filter answers by killing the process; 6.14 lets it pass. Some stable kernels in between have the
/// fix, which can't be told from outside.
///
/// `status` is the text of the target's `/proc/PID/status`; where its mode is not known, it counts as
/// filtered.
#[must_use]
pub fn uretprobe_hazard(kernel: KernelRelease, status: &str) -> bool {
    let release = |minor| KernelRelease { major: 6, minor };
    (release(11)..release(14)).contains(&kernel) && status_field(status, "Seccomp") != Some("0")
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
        let hazard = |minor, status| uretprobe_hazard(KernelRelease { major: 6, minor }, status);
        assert!(hazard(11, "Seccomp:\t2\n"));
        assert!(hazard(13, "Seccomp:\t1\n"));
        assert!(hazard(12, ""), "not known");
        assert!(!hazard(12, "Seccomp:\t0\n"));
        assert!(!hazard(10, "Seccomp:\t2\n"));
        assert!(!hazard(14, "Seccomp:\t2\n"));
        assert!(!uretprobe_hazard(KernelRelease { major: 7, minor: 12 }, "Seccomp:\t2\n"));
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
