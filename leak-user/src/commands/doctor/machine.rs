//! What the kernel and the privileges of this process allow.

use std::fs;
use std::path::Path;

use super::check::Check;

/// `bpf_loop` came with it.
const OLDEST: (u32, u32) = (5, 17);
/// Links to many uprobes came with it.
const MANY_UPROBES: (u32, u32) = (6, 6);
/// Kernels whose return probes go through a system call that a seccomp filter may answer by killing
/// the process: from the first, up to but without the second.
const RETURN_BY_SYSCALL: [(u32, u32); 2] = [(6, 11), (6, 14)];

/// Capabilities by number (linux/capability.h).
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

const WITH_SUDO: &str =
    "run it with sudo, or give the container or binary CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE";

/// A small file below `root`, without the white space at its end.
pub(super) fn read(root: &Path, path: &str) -> Option<String> {
    let bytes = fs::read(root.join(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A field of `/proc/PID/status`.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// `6.18.44-generic` → (6, 18).
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Does a return probe of this kernel go through a system call? Some releases have the fix already,
/// which cannot be told by number: then return probes are left out without need.
pub(super) fn returns_by_syscall(release: &str) -> bool {
    let [first, fixed] = RETURN_BY_SYSCALL;
    cfg!(target_arch = "x86_64")
        && version(release).is_some_and(|version| (first..fixed).contains(&version))
}

/// The kernel's release.
pub(super) fn release(root: &Path) -> String {
    read(root, "proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned())
}

/// All checks, in the order in which they should be mended.
pub(super) fn checks(root: &Path) -> Vec<Check> {
    let status = read(root, "proc/self/status").unwrap_or_default();
    let mut checks = vec![
        kernel(&release(root)),
        privileges(&status, read(root, "proc/self/uid_map").as_deref()),
        btf(root),
        uprobes(root),
        tracefs(root),
        perf(root, &status),
        jit(read(root, "proc/sys/net/core/bpf_jit_enable").as_deref()),
        lockdown(read(root, "sys/kernel/security/lockdown").as_deref()),
        returns(&release(root)),
    ];
    checks.extend(yama(read(root, "proc/sys/kernel/yama/ptrace_scope").as_deref()));
    checks.extend(own_filter(&status));
    checks
}

fn kernel(release: &str) -> Check {
    const NAME: &str = "kernel";
    let (major, minor) = OLDEST;
    match version(release) {
        Some(version) if version >= MANY_UPROBES => Check::ok(NAME, release),
        Some(version) if version >= OLDEST => {
            Check::note(NAME, format!("{release}: probes are slow to go, so that bursts are dear"))
                .advice("use Linux 6.6 or newer for more bursts at the same cost")
        }
        Some(_) => Check::missing(NAME, format!("{release} is too old"))
            .advice(format!("use Linux {major}.{minor} or newer")),
        None => Check::note(NAME, format!("{release}: the version cannot be told"))
            .advice(format!("Linux {major}.{minor} or newer is needed")),
    }
}

fn capabilities(status: &str) -> u64 {
    field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

fn privileges(status: &str, uid_map: Option<&str>) -> Check {
    const NAME: &str = "privileges";
    let held = capabilities(status);
    let has = |capability: u32| held & (1 << capability) != 0;
    let missing: Vec<_> = [
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
        ("CAP_SYS_PTRACE", has(SYS_PTRACE)),
    ]
    .into_iter()
    .filter_map(|(name, held)| (!held).then_some(name))
    .collect();
    if !missing.is_empty() {
        return Check::missing(NAME, format!("{} missing", missing.join(", "))).advice(WITH_SUDO);
    }
    // Capabilities count in the namespace of users that they were given in; BPF asks for the first.
    let first = uid_map.is_none_or(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    if !first {
        return Check::missing(
            NAME,
            "held in a user namespace only, where they do not count for BPF",
        )
        .advice("run it outside of the user namespace (a rootless container has its own)");
    }
    Check::ok(NAME, if has(SYS_ADMIN) { "all" } else { "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE" })
}

fn btf(root: &Path) -> Check {
    const NAME: &str = "kernel types";
    if root.join("sys/kernel/btf/vmlinux").exists() {
        Check::ok(NAME, "BTF in /sys/kernel/btf/vmlinux")
    } else {
        Check::missing(NAME, "no BTF in /sys/kernel/btf/vmlinux")
            .advice("use a kernel that was built with CONFIG_DEBUG_INFO_BTF=y")
    }
}

fn uprobes(root: &Path) -> Check {
    const NAME: &str = "uprobes";
    if root.join("sys/bus/event_source/devices/uprobe/type").exists() {
        Check::ok(NAME, "the kernel has them")
    } else {
        Check::missing(NAME, "no /sys/bus/event_source/devices/uprobe")
            .advice("use a kernel that was built with CONFIG_UPROBE_EVENTS=y, and mount sysfs")
    }
}

fn tracefs(root: &Path) -> Check {
    const NAME: &str = "tracepoints";
    const USED: [&str; 3] =
        ["exceptions/page_fault_user", "syscalls/sys_enter_mmap", "sched/sched_process_exit"];
    let mounts = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];
    let Some(mount) = mounts.into_iter().find(|mount| root.join(mount).join("events").is_dir())
    else {
        return Check::note(NAME, "tracefs is not mounted, or may not be read")
            .advice("mount -t tracefs tracefs /sys/kernel/tracing");
    };
    let absent: Vec<_> = USED
        .into_iter()
        .filter(|event| !root.join(mount).join("events").join(event).is_dir())
        .collect();
    if absent.is_empty() {
        Check::ok(NAME, format!("tracefs in /{mount}"))
    } else {
        Check::note(NAME, format!("this kernel lacks {}", absent.join(", "))).advice(
            "growth outside of Python's allocator is seen less well; CONFIG_FTRACE_SYSCALLS=y",
        )
    }
}

fn perf(root: &Path, status: &str) -> Check {
    const NAME: &str = "perf events";
    let Some(level) = read(root, "proc/sys/kernel/perf_event_paranoid") else {
        return Check::missing(NAME, "not in this kernel")
            .advice("use a kernel that was built with CONFIG_PERF_EVENTS=y");
    };
    let free = capabilities(status) & (1 << PERFMON | 1 << SYS_ADMIN) != 0;
    if free {
        Check::ok(NAME, format!("perf_event_paranoid is {level}, which CAP_PERFMON overrules"))
    } else {
        Check::note(
            NAME,
            format!("perf_event_paranoid is {level}, which holds without CAP_PERFMON"),
        )
    }
}

fn jit(enabled: Option<&str>) -> Check {
    const NAME: &str = "BPF compiler";
    match enabled {
        Some("0") => {
            Check::note(NAME, "off: probes are interpreted, and cost several times as much")
                .advice("sysctl net.core.bpf_jit_enable=1")
        }
        Some(_) => Check::ok(NAME, "on"),
        None => Check::note(NAME, "cannot be told (no net.core.bpf_jit_enable)"),
    }
}

fn lockdown(modes: Option<&str>) -> Check {
    const NAME: &str = "lockdown";
    let mode = modes.and_then(|modes| modes.split('[').nth(1)?.split(']').next());
    match mode {
        Some("confidentiality") => Check::missing(NAME, "confidentiality: BPF may not read memory")
            .advice("boot with lockdown=integrity or without lockdown"),
        Some(mode) => Check::ok(NAME, mode),
        None => Check::ok(NAME, "none"),
    }
}

fn returns(release: &str) -> Check {
    const NAME: &str = "return probes";
    if returns_by_syscall(release) {
        Check::note(
            NAME,
            "on this kernel they kill a process whose seccomp filter forbids uretprobe",
        )
        .advice("none are placed on filtered processes; Linux 6.14 has mended it")
    } else {
        Check::ok(NAME, "harmless on this kernel")
    }
}

fn yama(scope: Option<&str>) -> Option<Check> {
    const NAME: &str = "Yama";
    (scope? == "3").then(|| {
        Check::missing(NAME, "ptrace_scope is 3: no process's memory can be read, even by root")
            .advice("it stays so until the machine restarts; set kernel.yama.ptrace_scope lower at boot")
    })
}

fn own_filter(status: &str) -> Option<Check> {
    (field(status, "Seccomp")? != "0").then(|| {
        Check::note("own filter", "leaktrace itself runs under a seccomp filter (a container?)")
            .advice("if bpf or perf_event_open is forbidden, start it with seccomp=unconfined")
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    const ROOT_STATUS: &str = "Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n";
    const FIRST_USERS: Option<&str> = Some("         0          0 4294967295");

    #[test]
    fn kernels() {
        assert_eq!(version("6.18.44-generic"), Some((6, 18)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("unknown"), None);
        assert_eq!(version(""), None);
        assert_eq!(kernel("6.6.0").state, State::Ok);
        assert_eq!(kernel("5.17.0").state, State::Note);
        assert_eq!(kernel("5.14.21-suse").state, State::Missing);
        assert_eq!(kernel("unknown").state, State::Note);
        let hazard = |release| returns(release).state == State::Note;
        assert_eq!(
            ["6.10.9", "6.11.0", "6.13.12", "6.14.0", "6.18.44"].map(hazard),
            [false, true, true, false, false]
        );
    }

    #[test]
    fn privileges_are_counted() {
        let with =
            |capabilities: u64| privileges(&format!("CapEff:\t{capabilities:016x}\n"), FIRST_USERS);
        assert_eq!(privileges(ROOT_STATUS, FIRST_USERS).state, State::Ok);
        assert_eq!(with(1 << BPF | 1 << PERFMON | 1 << SYS_PTRACE).state, State::Ok);
        assert_eq!(with(1 << SYS_ADMIN).found, "CAP_SYS_PTRACE missing");
        assert_eq!(with(0).found, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE missing");
        assert_eq!(privileges("", FIRST_USERS).state, State::Missing);
        let inside = privileges(ROOT_STATUS, Some("0 1000 1"));
        assert_eq!(inside.state, State::Missing);
        assert!(inside.found.contains("user namespace"));
    }

    #[test]
    fn settings() {
        assert_eq!(lockdown(Some("none integrity [confidentiality]")).state, State::Missing);
        assert_eq!(lockdown(Some("[none] integrity confidentiality")).found, "none");
        assert_eq!(lockdown(None).state, State::Ok);
        assert_eq!(jit(Some("1")).state, State::Ok);
        assert_eq!(jit(Some("0")).state, State::Note);
        assert_eq!(yama(Some("3")).unwrap().state, State::Missing);
        assert_eq!(yama(Some("1")), None);
        assert_eq!(own_filter(ROOT_STATUS), None);
        assert_eq!(own_filter("Seccomp:\t2").unwrap().state, State::Note);
    }

    #[test]
    fn a_bare_machine_lacks_nearly_all_and_a_full_one_nothing() {
        let root = tempfile::tempdir().unwrap();
        let missing = |root: &Path| {
            let checks = checks(root).into_iter();
            checks.filter(|c| c.state == State::Missing).map(|c| c.name).collect::<Vec<_>>()
        };
        assert_eq!(missing(root.path()), ["privileges", "kernel types", "uprobes", "perf events"]);
        for (path, text) in [
            ("proc/self/status", ROOT_STATUS),
            ("proc/sys/kernel/osrelease", "6.18.1\n"),
            ("proc/sys/kernel/perf_event_paranoid", "2\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/bus/event_source/devices/uprobe/type", "8\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(missing(root.path()), Vec::<&str>::new());
    }

    #[test]
    fn tracepoints_that_are_absent_are_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(tracefs(root.path()).advice.unwrap().starts_with("mount -t tracefs"));
        let events = root.path().join("sys/kernel/tracing/events");
        fs::create_dir_all(events.join("exceptions/page_fault_user")).unwrap();
        fs::create_dir_all(events.join("sched/sched_process_exit")).unwrap();
        assert_eq!(tracefs(root.path()).found, "this kernel lacks syscalls/sys_enter_mmap");
        fs::create_dir_all(events.join("syscalls/sys_enter_mmap")).unwrap();
        assert_eq!(tracefs(root.path()).state, State::Ok);
    }
}
