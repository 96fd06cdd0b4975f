//! Which of the needed capabilities this process lacks.

use std::fmt;
use std::io;

use super::namespaces;
use super::process::status_field;

/// A capability that leaktrace needs (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// To load programs and maps.
    Bpf,
    /// To attach them to probes.
    Perfmon,
    /// To read the target's memory.
    SysPtrace,
    /// Includes the first two. By itself it is needed only to open mapped files that were deleted, and
    /// to mount tracefs where it is not.
    SysAdmin,
}

impl Capability {
    /// Those without which nothing can be traced.
    pub const NEEDED: [Self; 3] = [Self::Bpf, Self::Perfmon, Self::SysPtrace];

    /// Its number in `linux/capability.h`.
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        })
    }
}

/// Rights are missing; the message says how to get them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Capabilities.
    #[error("needs root, or {}: run `sudo leaktrace …`", list(.0))]
    Capabilities(Vec<Capability>),
    /// They are held in a user namespace only.
    #[error(
        "leaktrace runs in a user namespace, where its rights do not count for eBPF: run it outside, \
         on the host (a rootless container has such a namespace)"
    )]
    Outside,
}

fn list(capabilities: &[Capability]) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks the effective capabilities of this process.
///
/// # Errors
/// [`Missing`], what it lacks.
pub fn check() -> Result<(), Missing> {
    // Where /proc is not mounted nothing can be observed; what is missing is then all of it.
    let effective = effective().unwrap_or(0);
    let missing = missing(effective);
    if !missing.is_empty() {
        Err(Missing::Capabilities(missing))
    } else if !namespaces::has_initial_users() {
        Err(Missing::Outside)
    } else {
        Ok(())
    }
}

/// This process's effective capabilities, one bit each (`CapEff`).
///
/// # Errors
/// Where `/proc/self/status` can't be read.
pub fn effective() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status_field(&status, "CapEff")
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no CapEff in /proc/self/status"))
}

/// Those that a set of effective capabilities lacks. CAP_SYS_ADMIN includes CAP_BPF and
/// CAP_PERFMON, which kernels before 5.8 do not know.
#[must_use]
pub fn missing(effective: u64) -> Vec<Capability> {
    let has = |capability: Capability| effective >> capability.bit() & 1 == 1;
    let admin = has(Capability::SysAdmin);
    let included = |c| admin && matches!(c, Capability::Bpf | Capability::Perfmon);
    Capability::NEEDED.into_iter().filter(|&c| !has(c) && !included(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        assert_eq!(missing(u64::MAX), []);
        assert_eq!(missing(0), Capability::NEEDED);
        assert_eq!(missing(!(1 << 19)), [Capability::SysPtrace]);
        // An old kernel's root: capabilities up to 37.
        assert_eq!(missing((1 << 38) - 1), []);
        let message = Missing::Capabilities(missing(1 << 19)).to_string();
        assert_eq!(message, "needs root, or CAP_BPF, CAP_PERFMON: run `sudo leaktrace …`");
    }

    #[test]
    fn reads_its_own() {
        let effective = effective().expect("own status");
        let initial = namespaces::has_initial_users();
        assert_eq!(check().is_ok(), missing(effective).is_empty() && initial);
    }
}
