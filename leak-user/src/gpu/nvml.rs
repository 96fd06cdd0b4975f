//! What the driver's management library (NVML) says. Without it, or without a GPU, there is nothing to say.

use nvml_wrapper::{Device, Nvml, enums::device::UsedGpuMemory, error::NvmlError};

use crate::units::Bytes;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its number.
    pub index: u32,
    /// What it is called.
    pub name: String,
    /// It is cut into instances (MIG), which memory is counted by then.
    pub in_parts: bool,
    /// All its memory.
    pub total: Bytes,
    /// What of it is taken, by whomever.
    pub used: Bytes,
    /// What is free.
    pub free: Bytes,
    /// What the process has of it; None where it is not known.
    pub by_process: Option<Bytes>,
}

/// The library.
pub struct Devices {
    nvml: Nvml,
    /// The driver's version.
    pub driver: String,
}

impl Devices {
    /// Opens it.
    ///
    /// # Errors
    /// An error of NVML's where there is no driver.
    pub fn open() -> Result<Self, NvmlError> {
        let nvml = Nvml::init()?;
        let driver = nvml.sys_driver_version()?;
        Ok(Self { nvml, driver })
    }

    /// How many devices there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.nvml.device_count().unwrap_or(0)
    }

    /// All devices; `pids`: the numbers that the process may have there. What can't be read is left out.
    #[must_use]
    pub fn read(&self, pids: &[u32]) -> Vec<Reading> {
        (0..self.count()).filter_map(|index| self.reading(index, pids).ok()).collect()
    }

    fn reading(&self, index: u32, pids: &[u32]) -> Result<Reading, NvmlError> {
        let device = self.nvml.device_by_index(index)?;
        let memory = device.memory_info()?;
        Ok(Reading {
            index,
            name: device.name()?,
            in_parts: device.mig_mode().is_ok_and(|mode| mode.current != 0),
            total: Bytes(memory.total),
            used: Bytes(memory.used),
            free: Bytes(memory.free),
            by_process: by_process(&device, pids),
        })
    }
}

fn by_process(device: &Device<'_>, pids: &[u32]) -> Option<Bytes> {
    let processes = device.running_compute_processes().ok()?;
    let own = processes.iter().find(|process| pids.contains(&process.pid))?;
    match own.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
        UsedGpuMemory::Unavailable => None,
    }
}
