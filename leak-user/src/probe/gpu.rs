//! Probes on the libraries of GPUs: attached for as long as the observation lasts, since their calls are rare.

use std::{rc::Rc, time::Duration};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use leak_common::{
    config::Range,
    gpu::{Block, Call, DEVICES, Pool, Totals, memory},
};

use super::{
    attach::{self, Attached},
    batch::Batches,
    error::ProbeError,
    keeper::Keeper,
    object::Object,
    plan::{self, Probe},
    tables::take,
};
use crate::{
    gpu::libraries::Found,
    target::AddressRange,
    units::{Addr, Pid},
};

/// The maps.
pub struct GpuTables {
    calls: HashMap<MapData, u64, Call>,
    torch: Array<MapData, Range>,
    blocks: Batches<u64, Block>,
    tensors: Batches<u64, Block>,
    /// The same, one by one.
    one_block: HashMap<MapData, u64, Block>,
    /// See `one_block`.
    one_tensor: HashMap<MapData, u64, Block>,
    ended: Batches<u64, u64>,
    totals: PerCpuArray<MapData, Totals>,
    pools: Array<MapData, Pool>,
}

/// Probes of one or more libraries, held.
pub struct GpuProbes {
    keeper: Rc<Keeper>,
    attached: Vec<Attached>,
}

impl GpuTables {
    /// Takes the maps out of the object.
    ///
    /// # Errors
    /// [`ProbeError`] where the object lacks one.
    pub fn new(object: &mut Object) -> Result<Self, ProbeError> {
        Ok(Self {
            blocks: Batches::of(object, "GPU_BLOCKS")?,
            tensors: Batches::of(object, "GPU_TENSORS")?,
            ended: Batches::of(object, "GPU_ENDED")?,
            one_block: take(object, "GPU_BLOCKS")?,
            one_tensor: take(object, "GPU_TENSORS")?,
            calls: take(object, "GPU_CALLS")?,
            torch: take(object, "GPU_TORCH")?,
            totals: take(object, "GPU_TOTALS")?,
            pools: take(object, "GPU_POOLS")?,
        })
    }

    /// Every block that calls handed out and that was not given back.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn blocks(&self) -> Result<Vec<(Addr, Block)>, ProbeError> {
        let mut blocks = Vec::new();
        self.blocks.read(|(at, block)| blocks.push((Addr(at), block)))?;
        Ok(blocks)
    }

    /// The same of torch's tensors.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn tensors(&self) -> Result<Vec<(Addr, Block)>, ProbeError> {
        let mut tensors = Vec::new();
        self.tensors.read(|(at, block)| tensors.push((Addr(at), block)))?;
        Ok(tensors)
    }

    /// Takes out how many tensors of each Python stack have been given back.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn take_ended(&self) -> Result<Vec<(u64, u64)>, ProbeError> {
        let mut ended = Vec::new();
        self.ended.take(|entry| ended.push(entry))?;
        Ok(ended)
    }

    /// Takes a block out that is gone; false where it is not there.
    pub fn forget_block(&mut self, addr: Addr) -> bool {
        self.one_block.remove(&addr.0).is_ok()
    }

    /// The same for a tensor's.
    pub fn forget_tensor(&mut self, addr: Addr) -> bool {
        self.one_tensor.remove(&addr.0).is_ok()
    }

    /// What was counted, by kind of memory, summed over the CPUs.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn totals(&self) -> Result<[Totals; memory::KINDS], ProbeError> {
        let mut totals = [Totals::default(); memory::KINDS];
        for (index, sum) in (0..).zip(&mut totals) {
            let by_cpu = self.totals.get(&index, 0);
            let by_cpu = by_cpu.map_err(|source| ProbeError::Map { map: "GPU_TOTALS", source })?;
            for one in by_cpu.iter() {
                for (sum, one) in [
                    (&mut sum.allocations, one.allocations),
                    (&mut sum.allocated, one.allocated),
                    (&mut sum.frees, one.frees),
                    (&mut sum.freed, one.freed),
                    (&mut sum.failures, one.failures),
                    (&mut sum.unreached, one.unreached),
                    (&mut sum.hits, one.hits),
                    (&mut sum.spent_ns, one.spent_ns),
                ] {
                    // Sizes are the target's word.
                    *sum = sum.saturating_add(one);
                }
            }
        }
        Ok(totals)
    }

    /// What torch's allocator last said of each device of which it said anything.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn pools(&self) -> Result<Vec<(u32, Pool)>, ProbeError> {
        let mut pools = Vec::new();
        for device in 0..DEVICES as u32 {
            let pool = self.pools.get(&device, 0);
            let pool = pool.map_err(|source| ProbeError::Map { map: "GPU_POOLS", source })?;
            if pool.time_ns != 0 {
                pools.push((device, pool));
            }
        }
        Ok(pools)
    }

    /// Says where the code of torch's allocator lies; to be called before its library's probes are attached.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn set_torch(&mut self, code: AddressRange) -> Result<(), ProbeError> {
        let range = Range { start: code.start.0, end: code.end.0 };
        self.torch.set(0, range, 0).map_err(|source| ProbeError::Map { map: "GPU_TORCH", source })
    }
}

impl GpuProbes {
    /// None yet.
    ///
    /// # Errors
    /// [`ProbeError::Keeper`] where their keeper can't be started.
    pub fn new() -> Result<Self, ProbeError> {
        let keeper = Keeper::start().map_err(ProbeError::Keeper)?;
        Ok(Self { keeper: Rc::new(keeper), attached: Vec::new() })
    }

    /// Attaches a library's calls: all or none. `is_new`: none of another mapping of the same file is attached yet, since
    /// a probe is the file's, wherever it lies.
    ///
    /// # Errors
    /// [`ProbeError`]; where one is refused, those of before are gone too.
    pub fn attach(
        &mut self,
        object: &mut Object,
        tables: &mut GpuTables,
        pid: Pid,
        calls: &[Found],
        is_new: bool,
    ) -> Result<(), ProbeError> {
        let mut probes = Vec::new();
        for found in calls {
            let entry = plan::probe(found.program, &found.function);
            let offset = entry.file_offset.wrapping_sub(found.function.file_offset);
            let at = found.function.addr.offset(offset).0;
            let added = tables.calls.insert(at, found.call, 0);
            added.map_err(|source| ProbeError::Map { map: "GPU_CALLS", source })?;
            if found.returns {
                probes.push(Probe { program: "gpu_return", ..entry.clone() });
            }
            probes.push(entry);
        }
        if is_new && !probes.is_empty() {
            object.verify(&probes)?;
            self.attached.push(attach::attach(object, &self.keeper, pid, &probes)?);
        }
        Ok(())
    }

    /// Are any there?
    #[must_use]
    pub fn are_attached(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Lets all of them go.
    pub fn detach(&mut self) {
        if self.attached.drain(..).map(Attached::detach).count() > 0 {
            while !self.keeper.is_released(Duration::from_secs(1)) {}
        }
    }
}

impl Drop for GpuProbes {
    /// As with bursts: the kernel would remove the probes anyway.
    fn drop(&mut self) {
        self.detach();
    }
}
