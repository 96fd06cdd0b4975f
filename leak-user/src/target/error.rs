//! Why a process can't be observed, and the way out.

use std::io;

use super::elf::ElfError;
use super::memory::ReadError;
use crate::units::Pid;

/// Why [`super::discover`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No process has this id, or it ended meanwhile.
    #[error("no process {pid} (see `pgrep -a python` for those that run)")]
    NoSuchProcess {
        /// The id asked for.
        pid: Pid,
    },
    /// The id names a thread, not a process.
    #[error("{thread} is a thread of process {process}: give --pid {process}")]
    IsThread {
        /// The id asked for.
        thread: Pid,
        /// Its process.
        process: Pid,
    },
    /// No mapped file holds a CPython runtime.
    #[error(
        "process {pid} ({exe}) is not CPython: nothing it has mapped exports _PyRuntime \
         (give the pid of the interpreter, not of its launcher or container)"
    )]
    NotPython {
        /// The id asked for.
        pid: Pid,
        /// Its executable, or what else is known of it.
        exe: String,
    },
    /// Not built for x86-64.
    #[error("{path} is {what}: only x86-64 processes can be observed")]
    OtherArchitecture {
        /// The file.
        path: String,
        /// What it is built for.
        what: String,
    },
    /// CPython, in a version whose structures are not known.
    #[error(
        "the structures of CPython {version} are not known (known: {known}); update leaktrace if it is \
         newer"
    )]
    UnsupportedVersion {
        /// Its version.
        version: String,
        /// Those that are.
        known: String,
    },
    /// What is mounted at /proc shows another pid namespace than leaktrace's own.
    #[error(
        "/proc shows the processes of another pid namespace than leaktrace's own: mount its own \
         (`mount -t proc proc /proc`, `unshare --mount-proc`), or run leaktrace on the host"
    )]
    ForeignProc,
    /// The kernel forbids it.
    #[error("not allowed to read {what} (needs root, or CAP_SYS_PTRACE and CAP_SYS_ADMIN)")]
    Forbidden {
        /// What was to be read.
        what: String,
    },
    /// A file that the process has mapped can't be read.
    #[error("can't read {path}, which the process has mapped: {source}")]
    Unreadable {
        /// The file, as the target sees it.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What was found contradicts what is known of this version.
    #[error(
        "the interpreter does not look as this version should: {what} \
         (it may be starting or ending: try again; a patched or debug build is not supported)"
    )]
    Inconsistent {
        /// What was wrong.
        what: String,
    },
}

impl TargetError {
    /// Is it CPython, but a version or a build whose structures are not known?
    #[must_use]
    pub fn is_unknown_python(&self) -> bool {
        matches!(self, Self::UnsupportedVersion { .. })
    }

    /// The version of such a Python.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::UnsupportedVersion { version, .. } => version,
            _ => "unknown",
        }
    }

    pub(super) fn inconsistent(what: impl Into<String>) -> Self {
        Self::Inconsistent { what: what.into() }
    }

    /// A failed access to `/proc/PID/…`.
    pub(super) fn proc(pid: Pid, what: &str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::NoSuchProcess { pid },
            Some(libc::EACCES | libc::EPERM) => {
                Self::Forbidden { what: format!("/proc/{pid}/{what}") }
            }
            _ => Self::Unreadable { path: format!("/proc/{pid}/{what}"), source },
        }
    }

    /// A failed read of the target's memory.
    pub(super) fn read(pid: Pid, what: &str, source: ReadError) -> Self {
        match source {
            ReadError::Gone => Self::NoSuchProcess { pid },
            ReadError::Forbidden => {
                Self::Forbidden { what: format!("the memory of process {pid}") }
            }
            ReadError::Unmapped(addr) => Self::inconsistent(format!("{what}: no memory at {addr}")),
        }
    }

    /// A failed look into a mapped file.
    pub(super) fn elf(path: &str, source: ElfError) -> Self {
        let path = path.to_owned();
        match source {
            ElfError::OtherArchitecture(what) => Self::OtherArchitecture { path, what },
            ElfError::Io(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::Forbidden { what: path }
            }
            ElfError::Io(source) => Self::Unreadable { path, source },
            ElfError::Malformed(what) => {
                Self::Unreadable { path, source: io::Error::new(io::ErrorKind::InvalidData, what) }
            }
        }
    }
}
