//! The memory limit that a process lives under: what an orchestrator kills it for.

use std::fs;
use std::path::{Component, Path};

use crate::units::{Bytes, Pid};

/// A version 1 hierarchy says «no limit» by a number near `i64::MAX`.
const NO_LIMIT: u64 = 1 << 60;

/// The lowest memory limit of the process's control group and of those above it; None where there
/// is none, or it cannot be seen. `root` is where `proc` and `sys` are.
///
/// See `memory.max` in the kernel's cgroup-v2.rst, `memory.limit_in_bytes` in cgroup-v1/memory.rst.
#[must_use]
pub fn memory_limit(root: &Path, pid: Pid) -> Option<Bytes> {
    let groups = fs::read_to_string(root.join(format!("proc/{pid}/cgroup"))).ok()?;
    groups.lines().filter_map(|line| group_limit(root, line)).min()
}

/// The limit by one line of `/proc/PID/cgroup`: `hierarchy:controllers:path`.
fn group_limit(root: &Path, line: &str) -> Option<Bytes> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mounts, file): (&[&str], _) = match (hierarchy, controllers) {
        ("0", "") => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max"),
        (_, c) if c.split(',').any(|c| c == "memory") => {
            (&["sys/fs/cgroup/memory"], "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = Path::new(path.trim_start_matches('/'));
    // `..` leads out of this process's namespace of control groups, where nothing can be seen.
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let limits = mounts.iter().flat_map(|mount| path.ancestors().map(move |up| (mount, up)));
    limits
        .filter_map(|(mount, up)| fs::read_to_string(root.join(mount).join(up).join(file)).ok())
        .filter_map(|text| text.trim().parse().ok())
        .filter(|&limit| limit < NO_LIMIT)
        .map(Bytes)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let root = machine(&[
            ("proc/7/cgroup", "0::/kube/pod/app\n"),
            ("sys/fs/cgroup/kube/pod/app/memory.max", "max\n"),
            ("sys/fs/cgroup/kube/pod/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/kube/memory.max", "4294967296\n"),
        ]);
        assert_eq!(memory_limit(root.path(), Pid(7)), Some(Bytes(1 << 30)));
    }

    #[test]
    fn version_one() {
        let root = machine(&[
            ("proc/7/cgroup", "5:cpu,cpuacct:/app\n4:memory:/app\n0::/app\n"),
            ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(memory_limit(root.path(), Pid(7)), Some(Bytes(512 << 20)));
    }

    #[test]
    fn none_where_there_is_none_or_it_cannot_be_seen() {
        let free = machine(&[("proc/7/cgroup", "0::/\n")]);
        assert_eq!(memory_limit(free.path(), Pid(7)), None);
        assert_eq!(memory_limit(free.path(), Pid(8)), None);
        let outside = machine(&[("proc/7/cgroup", "0::/../app\n"), ("sys/fs/memory.max", "1\n")]);
        assert_eq!(memory_limit(outside.path(), Pid(7)), None);
        let odd =
            machine(&[("proc/7/cgroup", "nonsense\n:\n0:\n"), ("sys/fs/cgroup/memory.max", "x")]);
        assert_eq!(memory_limit(odd.path(), Pid(7)), None);
    }
}
