//! Where a process's threads wait: the registers that the kernel saved as each entered it.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    mem::{offset_of, size_of},
};

use aya::{Ebpf, EbpfLoader, programs::Iter};
use leak_common::{
    event::Registers,
    threads::{ThreadRecord, ThreadsConfig},
};

use super::{
    error::{ProbeError, refused},
    object,
    verifier::{self, Verified},
};
use crate::units::Tid;

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leak-threads"));

const PROGRAM: &str = "thread_registers";

/// What it visits.
const ITERATED: &str = "task";

/// Reads registers when asked.
pub struct ThreadsProbe {
    ebpf: Ebpf,
}

impl ThreadsProbe {
    /// Loads the program; nothing runs yet. Linux 5.15 with BTF; CAP_BPF and CAP_PERFMON.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn open(config: &ThreadsConfig) -> Result<Self, ProbeError> {
        let mut ebpf = make_maps(config)?;
        program(&mut ebpf)?.load(ITERATED, &*object::kernel_types()?).map_err(refused(PROGRAM))?;
        Ok(Self { ebpf })
    }

    /// The registers of all threads of the process, by the initial pid namespace's ids. They mean something of
    /// those alone that did not run.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn registers(&mut self) -> Result<HashMap<Tid, Registers>, ProbeError> {
        let program = program(&mut self.ebpf)?;
        let attached = program.attach().map_err(refused(PROGRAM))?;
        let link = program.take_link(attached).map_err(refused(PROGRAM))?;
        let mut records = Vec::new();
        link.into_file()
            .map_err(io::Error::other)
            .and_then(|mut file| file.read_to_end(&mut records))
            .map_err(|source| ProbeError::Refused { program: PROGRAM.to_owned(), source })?;
        Ok(records.chunks_exact(size_of::<ThreadRecord>()).filter_map(decode).collect())
    }
}

/// Has the kernel verify the program, and says what it took.
///
/// # Errors
/// [`ProbeError`] where it refuses.
pub fn verified(config: &ThreadsConfig) -> Result<Vec<Verified>, ProbeError> {
    verifier::verify(OBJECT, &make_maps(config)?, |_| ITERATED)
}

fn make_maps(config: &ThreadsConfig) -> Result<Ebpf, ProbeError> {
    EbpfLoader::new()
        .override_global("THREADS", config, true)
        .load(OBJECT)
        .map_err(|e| ProbeError::Load(Box::new(e)))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Iter, ProbeError> {
    ebpf.program_mut(PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| ProbeError::Missing(PROGRAM.to_owned()))
}

fn decode(record: &[u8]) -> Option<(Tid, Registers)> {
    let word = |at: usize| Some(u64::from_le_bytes(*record.get(at..)?.first_chunk()?));
    let register = |at: usize| word(offset_of!(ThreadRecord, registers) + at);
    let registers = Registers {
        ip: register(offset_of!(Registers, ip))?,
        sp: register(offset_of!(Registers, sp))?,
        bp: register(offset_of!(Registers, bp))?,
    };
    // A worker of io_uring's never was outside the kernel.
    let tid = Tid(u32::try_from(word(offset_of!(ThreadRecord, tid))?).ok()?);
    (registers.ip != 0).then_some((tid, registers))
}
