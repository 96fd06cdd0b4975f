//! The kernel side of a process tree: who belongs to it, and what happens to them.

use std::{os::fd::AsFd as _, sync::Arc};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::BtfTracePoint,
};
use leak_common::tree::{TREE_COUNTERS, TaskConfig, TreeCounter};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    error::{ProbeError, refused},
    object,
    verifier::{self, Verified},
};
use crate::{
    collect::tree::{TreeEvent, decode},
    units::{Nanos, Pid},
};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leak-tree"));

/// Program and tracepoint.
const PROGRAMS: [(&str, &str); 3] = [
    ("tree_fork", "sched_process_fork"),
    ("tree_exec", "sched_process_exec"),
    ("tree_exit", "sched_process_exit"),
];

/// Records taken in one go at most.
const BATCH: usize = 1 << 14;

/// The tree, kept by the kernel as long as this lives.
pub struct TreeProbe {
    members: HashMap<MapData, u32, u32>,
    ring: RingBuf<MapData>,
    counts: PerCpuArray<MapData, u64>,
    bad_records: u64,
    /// Held for its drop.
    _ebpf: Ebpf,
    /// Held for the sessions of the tree, so that not each of them reads them.
    _types: Arc<Btf>,
}

/// What the kernel has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Births.
    pub born: u64,
    /// Of them, those that found no room among the members.
    pub no_room: u64,
    /// Records that found no room in the ring, or made no sense.
    pub lost: u64,
}

impl TreeProbe {
    /// Watches the tree that so far consists of nobody. Linux 5.17 with BTF; CAP_BPF and CAP_PERFMON.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn open(task: &TaskConfig) -> Result<Self, ProbeError> {
        let mut ebpf = make_maps(task)?;
        let btf = object::kernel_types()?;
        for (name, tracepoint) in PROGRAMS {
            let program: &mut BtfTracePoint = ebpf
                .program_mut(name)
                .and_then(|program| program.try_into().ok())
                .ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
            program.load(tracepoint, &btf).map_err(refused(name))?;
            program.attach().map_err(refused(name))?;
        }
        Ok(Self {
            members: take(&mut ebpf, "MEMBERS")?,
            ring: take(&mut ebpf, "TREE_RING")?,
            counts: take(&mut ebpf, "TREE_COUNTS")?,
            bad_records: 0,
            _ebpf: ebpf,
            _types: btf,
        })
    }

    /// Makes a process a member; its children will be from now on. False where it was one.
    ///
    /// # Errors
    /// [`ProbeError::Map`] where there is no room.
    pub fn add(&mut self, pid: Pid) -> Result<bool, ProbeError> {
        if self.members.get(&pid.0, 0).is_ok() {
            return Ok(false);
        }
        self.members.insert(pid.0, 0, 0).map_err(failed("MEMBERS"))?;
        Ok(true)
    }

    /// Strikes out a process that ended before it was added.
    pub fn forget(&mut self, pid: Pid) {
        // The kernel may have been first.
        let _ = self.members.remove(&pid.0);
    }

    /// Waits until there is much to read, at most `timeout`; a signal ends the wait.
    pub fn wait(&self, timeout: Nanos) {
        let millis = timeout.0.div_ceil(1_000_000).min(60_000) as u16;
        let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(millis));
    }

    /// What happened since, in order.
    pub fn drain(&mut self) -> Vec<TreeEvent> {
        let mut events = Vec::new();
        for _ in 0..BATCH {
            let Some(record) = self.ring.next() else { break };
            match decode(&record) {
                Some(event) => events.push(event),
                None => self.bad_records += 1,
            }
        }
        events
    }

    /// The counters.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn counts(&self) -> Result<TreeCounts, ProbeError> {
        let mut sums = [0; TREE_COUNTERS];
        for (index, sum) in (0..).zip(&mut sums) {
            let by_cpu = self.counts.get(&index, 0).map_err(failed("TREE_COUNTS"))?;
            *sum = by_cpu.iter().sum();
        }
        let count = |counter: TreeCounter| sums[counter as usize];
        Ok(TreeCounts {
            born: count(TreeCounter::Born),
            no_room: count(TreeCounter::NoRoom),
            lost: count(TreeCounter::RingFull) + self.bad_records,
        })
    }
}

/// Has the kernel verify the programs, and says what it took.
///
/// # Errors
/// [`ProbeError`] of one that it refuses.
pub fn verified(task: &TaskConfig) -> Result<Vec<Verified>, ProbeError> {
    verifier::verify(OBJECT, &make_maps(task)?, |name| {
        PROGRAMS.iter().find(|(known, _)| *known == name).map_or(name, |(_, tracepoint)| tracepoint)
    })
}

fn make_maps(task: &TaskConfig) -> Result<Ebpf, ProbeError> {
    EbpfLoader::new()
        .override_global("TASK", task, true)
        .load(OBJECT)
        .map_err(|e| ProbeError::Load(Box::new(e)))
}

fn take<T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, ProbeError> {
    let map = ebpf.take_map(name).ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
    T::try_from(map).map_err(failed(name))
}

fn failed(map: &'static str) -> impl Fn(aya::maps::MapError) -> ProbeError {
    move |source| ProbeError::Map { map, source }
}
