//! Memory of GPUs: finding the libraries, following what their calls hand out, telling of failures.

use std::collections::HashSet;

use leak_common::gpu::{Block, Totals, does, memory};

use super::{Session, SessionError, tensors::Tensors};
use crate::{
    clock::now,
    collect::decode::GpuCall,
    gpu::{
        calls::{self, Library},
        libraries::{self, Found, Loads},
        nvml::{self, Reading},
    },
    ledger::{
        devices::{Holding, Kind, Seen},
        graveyard::Followed,
    },
    probe::{
        error::ProbeError,
        gpu::{GpuProbes, GpuTables},
        plan::Returns,
    },
    units::{Addr, Bytes, Nanos},
    verdict::evidence::{Domain, SiteId},
};

/// Libraries that are watched at most: a target may load and unload them as often as it likes.
const MOST_LIBRARIES: usize = 32;

/// Failures that are told of at length.
const MOST_FAILURES: usize = 16;

/// Sites that are noted as those who held the most when one failed: several may be of one line.
const MOST_HOLDERS: usize = 32;

/// What probes cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    hits: u64,
    spent: Nanos,
}

/// What is known of GPUs.
pub(super) struct Gpu {
    pub(super) tables: GpuTables,
    /// Of drivers and runtimes; None: the target has no such library.
    probes: Option<GpuProbes>,
    /// None: it has no torch for GPUs.
    pub(super) tensors: Option<Tensors>,
    /// What the probes have cost and how often they were hit, as far as it is booked.
    booked: Cost,
    /// When torch's allocator was asked last.
    asked: Nanos,
    /// Files, and where they lie.
    known: HashSet<(String, u64)>,
    /// What could not be watched, in sentences.
    pub(super) unseen: Vec<String>,
    nvml: Option<nvml::Devices>,
    /// The devices when they were looked at first.
    pub(super) at_first: Vec<Reading>,
    /// What contexts took with them when they were destroyed.
    dropped: [Holding; memory::KINDS],
    /// How many contexts were destroyed.
    pub(super) resets: u64,
    pub(super) failures: Vec<Failure>,
    pub(super) failed: u64,
}

/// A call that found no memory.
pub(super) struct Failure {
    pub(super) call: GpuCall,
    pub(super) site: SiteId,
    /// The devices shortly after.
    pub(super) devices: Vec<Reading>,
    /// Who held the most then.
    pub(super) holders: Vec<(SiteId, Holding)>,
}

/// One kind of memory, as counted.
pub(super) struct Counted {
    pub(super) memory: u32,
    pub(super) live: Holding,
    pub(super) totals: Totals,
}

impl Gpu {
    pub(super) fn new(tables: GpuTables) -> Self {
        Self {
            tables,
            probes: None,
            tensors: None,
            booked: Cost::default(),
            asked: Nanos(0),
            known: HashSet::new(),
            unseen: Vec::new(),
            nvml: None,
            at_first: Vec::new(),
            dropped: [Holding::default(); memory::KINDS],
            resets: 0,
            failures: Vec::new(),
            failed: 0,
        }
    }

    /// Is any call watched?
    pub(super) fn is_watched(&self) -> bool {
        self.probes.is_some() || self.tensors.is_some()
    }

    /// The driver's version, where its management library could be opened.
    pub(super) fn driver(&self) -> Option<&str> {
        self.nvml.as_ref().map(|nvml| nvml.driver.as_str())
    }
}

impl Session {
    /// Attaches to the libraries that the target has loaded by now. What the kernel refuses is said in the report.
    pub(super) fn find_gpus(&mut self) -> Result<(), SessionError> {
        let files = self.modules.files();
        let torch_code = libraries::torch_code(files);
        let mut loads = libraries::loaded(files);
        // torch without its allocator for GPUs reports nothing of them.
        loads.retain(|loads| loads.library != Library::Torch || torch_code.is_some());
        for loads in loads {
            let module = &loads.file.module;
            let known = (module.path.clone(), module.bias);
            if self.gpu.known.len() >= MOST_LIBRARIES || !self.gpu.known.insert(known) {
                continue;
            }
            if let Some(code) = torch_code {
                self.gpu.tables.set_torch(code)?;
            }
            self.watch_library(&loads);
        }
        Ok(())
    }

    fn watch_library(&mut self, loads: &Loads) {
        let path = &loads.file.module.path;
        let calls = loads.calls();
        tracing::debug!(%path, calls = calls.len(), "a library of GPUs");
        if calls.is_empty() {
            let what = format!("what {path} does: it has none of the calls that are known");
            self.gpu.unseen.push(what);
            return;
        }
        if self.returns == Returns::Instructions && loads.library != Library::Torch {
            self.gpu.unseen.push(format!(
                "what the calls of {path} hand out: a return probe could make the target's seccomp filter kill it \
                 on this kernel"
            ));
            return;
        }
        let is_new = self.gpu.known.iter().filter(|(known, _)| known == path).count() == 1;
        if let Err(error) = self.attach_library(loads.library, &calls, is_new) {
            self.gpu.unseen.push(format!("the calls of {path}: {error}"));
            return;
        }
        if self.gpu.nvml.is_none() {
            match nvml::Devices::open() {
                Ok(nvml) => {
                    self.gpu.at_first = nvml.read(&self.pids());
                    self.gpu.nvml = Some(nvml);
                }
                Err(error) => tracing::debug!("NVML: {error}"),
            }
        }
    }

    fn attach_library(
        &mut self,
        library: Library,
        calls: &[Found],
        is_new: bool,
    ) -> Result<(), ProbeError> {
        let (object, tables, pid) = (&mut self.object, &mut self.gpu.tables, self.target.pid);
        if library == Library::Torch {
            let mut probes = GpuProbes::new()?;
            probes.attach(object, tables, pid, calls, true)?;
            self.gpu.tensors = Some(Tensors::new(probes, now()));
            return Ok(());
        }
        let mut probes = match self.gpu.probes.take() {
            Some(probes) => probes,
            None => GpuProbes::new()?,
        };
        let attached = probes.attach(object, tables, pid, calls, is_new);
        if attached.is_ok() || probes.are_attached() {
            self.gpu.probes = Some(probes);
        }
        attached
    }

    /// The numbers that the process may have for the driver.
    fn pids(&self) -> [u32; 2] {
        [self.target.pid.0, self.target.kernel_id.tgid]
    }

    /// The devices now.
    pub(super) fn devices(&self) -> Vec<Reading> {
        self.gpu.nvml.as_ref().map_or_else(Vec::new, |nvml| nvml.read(&self.pids()))
    }

    /// Asks the kernel for what has not been given back.
    pub(super) fn look_at_gpus(&mut self, time: Nanos) -> Result<(), SessionError> {
        if !self.gpu.is_watched() {
            return Ok(());
        }
        let (blocks, tensors) = (self.gpu.tables.blocks()?, self.gpu.tables.tensors()?);
        let ended = self.gpu.tables.take_ended()?;
        // Their stacks came before them.
        let mut events = Vec::new();
        self.ring.drain(&mut events);
        self.digest(&mut events);
        let blocks = self.seen(&blocks, Domain::Cuda);
        let tensors = self.seen(&tensors, Domain::Torch);
        self.ledger.devices.blocks.look(blocks, time);
        for stale in self.ledger.devices.tensors.look(tensors, time) {
            self.gpu.tables.forget_tensor(stale);
        }
        if self.ledger.devices.in_windows {
            self.note_ended(&ended);
        }
        let pools = self.gpu.tables.pools()?;
        let watched = self.gpu.tensors.as_ref().is_some_and(Tensors::are_watched);
        let is_news = watched || pools.iter().any(|(_, pool)| pool.time_ns > self.gpu.asked.0);
        // The target's word.
        let sum = |sum: u64, allocated| sum.saturating_add(allocated);
        let handed_out = pools.iter().map(|(_, pool)| pool.allocated).fold(0, sum);
        let handed_out = (is_news && !pools.is_empty()).then_some(Bytes(handed_out));
        self.gpu.asked = time;
        self.ledger.device_usage(time, handed_out);
        Ok(())
    }

    /// Books tensors that ended to the sites of their stacks, those that are still known.
    fn note_ended(&mut self, ended: &[(u64, u64)]) {
        for (stack, count) in ended {
            if self.stacks.get(*stack).is_some() {
                let site = self.ledger.device_site(&self.stacks, Domain::Torch, *stack, 0);
                self.ledger.devices.note_ended(site, *count);
            }
        }
    }

    /// Books what the probes have cost, and sees to it that tensors cost no more than they may.
    pub(super) fn book_gpus(&mut self, time: Nanos) -> Result<(), SessionError> {
        if !self.gpu.is_watched() {
            return Ok(());
        }
        let totals = self.gpu.tables.totals()?;
        let trap = self.costs.trap.0;
        let cost = |totals: &Totals| Nanos(totals.spent_ns.saturating_add(totals.hits * trap));
        let all = Cost {
            hits: totals.iter().map(|totals| totals.hits).sum(),
            spent: Nanos(totals.iter().map(|totals| cost(totals).0).sum()),
        };
        let before = std::mem::replace(&mut self.gpu.booked, all);
        let spent = Nanos(all.spent.0.saturating_sub(before.spent.0));
        self.budget.book_watching(all.hits.saturating_sub(before.hits), spent);
        let [.., tensors] = &totals;
        self.watch_tensors(time, cost(tensors))
    }

    fn seen(&mut self, blocks: &[(Addr, Block)], domain: Domain) -> Vec<Seen> {
        let mut seen = Vec::with_capacity(blocks.len());
        for (addr, block) in blocks {
            let born = Nanos(block.born_ns);
            let of_domain = match domain {
                Domain::Torch => &self.ledger.devices.tensors,
                _ => &self.ledger.devices.blocks,
            };
            let followed = of_domain.known(*addr, born).unwrap_or_else(|| {
                self.refer(block.stack);
                let (stack, native) = (block.stack, block.native);
                let site = self.ledger.device_site(&self.stacks, domain, stack, native);
                let device = (block.memory == memory::TENSOR).then_some(block.device);
                let kind = Kind { memory: block.memory, device };
                self.ledger.devices.note(site, kind, block.by_torch != 0);
                Followed { site, size: Bytes(block.size), weight: 1.0, born }
            });
            seen.push(Seen { addr: *addr, block: followed });
        }
        seen
    }

    /// Takes in a rare call.
    pub(super) fn gpu_call(&mut self, call: GpuCall) {
        let time = call.origin.time;
        let physical = &mut self.ledger.devices.physical;
        match call.does {
            does::RELEASE => physical.release(call.address.0, time),
            does::MAP => physical.map(call.address.0, call.size.0, call.other),
            does::UNMAP => physical.unmap(call.address.0, call.size.0, time),
            does::CREATE => {
                let site = self.site_of(&call);
                let kind = Kind { memory: memory::PHYSICAL, device: None };
                self.ledger.devices.note(site, kind, call.by_torch);
                let block = Followed { site, size: call.size, weight: 1.0, born: time };
                self.ledger.devices.physical.create(call.address.0, block);
            }
            does::RESET => self.drop_context(time),
            // torch drops what it holds unused and asks again; where that fails too, it says so itself.
            does::FAIL if call.by_torch && self.ledger.follows_tensors => {}
            does::FAIL | does::REPORT_FAILURE => self.note_failure(call),
            _ => {}
        }
    }

    fn site_of(&mut self, call: &GpuCall) -> SiteId {
        let (stack, native) = (call.origin.stack, call.origin.native);
        self.refer(stack);
        let domain = match call.memory {
            memory::TENSOR => Domain::Torch,
            _ => Domain::Cuda,
        };
        self.ledger.device_site(&self.stacks, domain, stack, native)
    }

    /// A context is gone, and with it what lay on its device and what was pinned for it. Which device that was is not
    /// known: all of them are taken for one. Physical memory is no context's.
    fn drop_context(&mut self, time: Nanos) {
        self.gpu.resets += 1;
        let Ok(blocks) = self.gpu.tables.blocks() else { return };
        let Ok(tensors) = self.gpu.tables.tensors() else { return };
        let before = |block: &Block| block.born_ns <= time.0;
        for (addr, block) in blocks.iter().filter(|(_, block)| before(block)) {
            if self.gpu.tables.forget_block(*addr) {
                self.gpu.dropped[block.memory as usize].add(Bytes(block.size));
            }
        }
        for (addr, block) in tensors.iter().filter(|(_, block)| before(block)) {
            if self.gpu.tables.forget_tensor(*addr) {
                self.gpu.dropped[memory::TENSOR as usize].add(Bytes(block.size));
            }
        }
    }

    fn note_failure(&mut self, call: GpuCall) {
        self.gpu.failed += 1;
        if self.gpu.failures.len() >= MOST_FAILURES {
            return;
        }
        let site = self.site_of(&call);
        let mut holders = self.ledger.devices.holders(!self.ledger.follows_tensors);
        holders.truncate(MOST_HOLDERS);
        let failure = Failure { call, site, devices: self.devices(), holders };
        tracing::debug!(call = calls::name(call.call), size = call.size.0, "no memory of a GPU");
        self.gpu.failures.push(failure);
    }

    /// What was counted, by kind of memory.
    pub(super) fn gpu_counts(&self) -> Result<Vec<Counted>, SessionError> {
        let physical = &self.ledger.devices.physical;
        let counted = (0..).zip(self.gpu.tables.totals()?).map(|(memory, mut totals)| {
            if memory == memory::PHYSICAL {
                (totals.allocations, totals.allocated) =
                    (physical.made.count, physical.made.bytes.0);
                (totals.frees, totals.freed) = (physical.gone.count, physical.gone.bytes.0);
            }
            if let Some(dropped) = self.gpu.dropped.get(memory as usize) {
                totals.frees += dropped.count;
                totals.freed = totals.freed.saturating_add(dropped.bytes.0);
            }
            let live = Holding {
                bytes: Bytes(totals.allocated.saturating_sub(totals.freed)),
                count: totals.allocations.saturating_sub(totals.frees),
            };
            Counted { memory, live, totals }
        });
        Ok(counted.filter(|counted| counted.totals != Totals::default()).collect())
    }

    /// What torch's allocator last said: device, handed out, held.
    pub(super) fn torch_pools(&self) -> Result<Vec<(u32, Bytes, Bytes)>, SessionError> {
        let pools = self.gpu.tables.pools()?.into_iter();
        Ok(pools
            .map(|(device, pool)| (device, Bytes(pool.allocated), Bytes(pool.reserved)))
            .collect())
    }
}
