//! Loads the eBPF object with the target's configuration.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use aya::{Btf, Ebpf, EbpfLoader, programs::Program};
use leak_common::config::Config;

use super::{
    error::{ProbeError, refused},
    log,
    multi::Multi,
    plan::Probe,
    verifier::{self, Verified},
    watch,
};

/// The programs and maps, loaded.
pub struct Object {
    pub(super) ebpf: Ebpf,
    /// The uprobe programs, where the kernel can attach them to many points at once; else they are among
    /// those of `ebpf`.
    pub(super) multi: Option<Multi>,
}

impl Object {
    /// Does the kernel place many uprobes by one link, and let them go at once? See [`Multi::new`].
    #[must_use]
    pub fn places_at_once(&self) -> bool {
        self.multi.is_some()
    }

    /// Has the kernel verify the programs that would otherwise wait for their first use.
    ///
    /// # Errors
    /// [`ProbeError`] of one that it refuses.
    pub fn verify_all(&mut self) -> Result<(), ProbeError> {
        self.multi.as_mut().map_or(Ok(()), Multi::ensure_all)
    }

    /// Has the kernel verify all programs again, one after the other, and says what it took.
    ///
    /// # Errors
    /// [`ProbeError`] of one that it refuses.
    pub fn verified(&self) -> Result<Vec<Verified>, ProbeError> {
        // Those that are attached by name have the name of their place.
        verifier::verify(OBJECT, &self.ebpf, watch::place)
    }

    /// Has the kernel verify what these probes need, as far as it has not yet.
    ///
    /// # Errors
    /// [`ProbeError`] of one that it refuses.
    pub(super) fn verify(&mut self, probes: &[Probe]) -> Result<(), ProbeError> {
        let programs = probes.iter().map(|probe| probe.program);
        self.multi.as_mut().map_or(Ok(()), |multi| multi.ensure(programs))
    }

    /// A program, to be attached.
    ///
    /// # Errors
    /// [`ProbeError::Missing`] where the object has none of this name and type.
    pub(super) fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, ProbeError>
    where
        &'a mut P: TryFrom<&'a mut Program>,
    {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| ProbeError::Missing(name.to_owned()))
    }
}

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leak-ebpf"));

/// How many recorded blocks and sites the kernel can hold.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Blocks not seen freed.
    pub live: u32,
    /// Sites.
    pub sites: u32,
    /// Bytes of the ring buffer, a power of two.
    pub ring: u32,
}

impl Capacity {
    /// For bursts.
    pub const BURSTS: Self = Self { live: 1 << 14, sites: 1 << 16, ring: 4 << 20 };
    /// For tracing everything.
    pub const EXACT: Self = Self { live: 1 << 22, sites: 1 << 18, ring: 4 << 20 };
}

impl Capacity {
    /// The same where whole native stacks are sent.
    #[must_use]
    pub const fn with_whole_stacks(self) -> Self {
        Self { ring: 16 << 20, ..self }
    }
}

/// The running kernel's types: read anew only where nobody holds them, since they take some 12 MB.
pub(super) fn kernel_types() -> Result<Arc<Btf>, ProbeError> {
    static KNOWN: Mutex<Weak<Btf>> = Mutex::new(Weak::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(types) = known.upgrade() {
        return Ok(types);
    }
    let types = Btf::from_sys_fs().map_err(|e| ProbeError::Load(Box::new(e.into())))?;
    let types = Arc::new(types);
    *known = Arc::downgrade(&types);
    Ok(types)
}

/// Makes the maps and has the programs verified, but for those that [`Multi`] loads at their first use, and those that
/// [`super::watch`] attaches by the kernel's types.
/// `one_by_one`: does without [`Multi`], even where the kernel knows it.
///
/// # Errors
/// [`ProbeError::Load`], [`ProbeError::Program`].
pub fn load(config: &Config, capacity: Capacity, one_by_one: bool) -> Result<Object, ProbeError> {
    let level = log::level();
    let mut ebpf = EbpfLoader::new()
        .override_global("CONFIG", config, true)
        .override_global(aya_log::LEVEL, &level, true)
        .map_max_entries("LIVE", capacity.live)
        .map_max_entries("SITES", capacity.sites)
        .map_max_entries("RING", capacity.ring)
        .load(OBJECT)
        .map_err(|e| ProbeError::Load(Box::new(e)))?;
    let multi = if one_by_one { None } else { Multi::new(OBJECT, &ebpf)? };
    tracing::debug!(at_once = multi.is_some(), "uprobes");
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::UProbe(p) if multi.is_none() => p.load(),
            Program::TracePoint(p) => p.load(),
            Program::PerfEvent(p) => p.load(),
            _ => continue,
        };
        loaded.map_err(refused(name))?;
    }
    Ok(Object { ebpf, multi })
}
