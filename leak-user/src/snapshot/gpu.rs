//! What the report says of GPUs.

use serde::{Deserialize, Serialize};

use super::Frame;

/// Memory of GPUs; absent where the target has no library of theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// The driver's version; absent where its management library could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The devices, by that library.
    pub devices: Vec<Device>,
    /// What calls handed out while observed, by kind of memory; kinds that were not used are left out.
    pub memory: Vec<Memory>,
    /// What torch's allocator says of itself.
    pub torch: Vec<TorchPool>,
    /// The share of the time in which torch's tensors were watched: less than 1 where watching them all the time would
    /// have cost more than allowed; absent without torch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensors_watched: Option<f64>,
    /// Growth of what calls handed out and is still held, without torch's segments where its tensors are followed.
    pub growth_bytes_per_s: f64,
    /// Growth of torch's tensors.
    pub tensor_growth_bytes_per_s: f64,
    /// Calls that found no memory, the first of them at length; without those of torch's allocator that it made good
    /// by giving back what it held unused.
    pub failures: Vec<Failure>,
    /// How many there were.
    pub failed: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// What it is called.
    pub name: String,
    /// It is cut into instances (MIG).
    pub in_parts: bool,
    /// All its memory.
    pub total_bytes: u64,
    /// What of it is taken, by whomever.
    pub used_bytes: u64,
    /// What was taken when it was looked at first.
    pub used_at_first_bytes: u64,
    /// What the process has of it; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_bytes: Option<u64>,
}

/// Memory of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `device`, `managed`, `pooled`, `pinned`, `registered`, `physical`, `tensor`.
    pub kind: String,
    /// Handed out while observed and still held; of tensors that were not watched all the time, as far as is known.
    pub live_bytes: u64,
    /// See `live_bytes`.
    pub live_count: u64,
    /// Handed out while observed.
    pub allocations: u64,
    /// Their bytes.
    pub allocated_bytes: u64,
    /// Of them, given back.
    pub frees: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls of the runtime that led to none of the driver's that is known.
    pub unreached: u64,
}

/// torch's allocator on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TorchPool {
    /// The device.
    pub device: u32,
    /// Handed out: `torch.cuda.memory_allocated()`.
    pub allocated_bytes: u64,
    /// Held: `torch.cuda.memory_reserved()`.
    pub reserved_bytes: u64,
}

/// A call that found no memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When, in seconds from the start.
    pub at_s: f64,
    /// The call.
    pub call: String,
    /// The kind of memory, as in [`Memory::kind`].
    pub memory: String,
    /// What it asked for.
    pub size_bytes: u64,
    /// Free on each device shortly after, by the management library.
    pub free_bytes: Vec<u64>,
    /// What torch's allocator had handed out, where it tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch_allocated_bytes: Option<u64>,
    /// … and held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch_reserved_bytes: Option<u64>,
    /// Who asked, from the innermost frame outwards.
    pub stack: Vec<Frame>,
    /// Who held the most of what was handed out while observed.
    pub holders: Vec<Holder>,
}

/// Who holds memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Bytes.
    pub bytes: u64,
    /// Blocks.
    pub count: u64,
    /// From the innermost frame outwards.
    pub stack: Vec<Frame>,
}
