//! The calls that hand out memory of GPUs and take it back, as data.
//!
//! Every program's calls end in the driver's, also where the runtime is linked statically. Those of the runtime are
//! there for the name that the user knows. Signatures: `cuda.h` and `cuda_runtime_api.h` of CUDA 13,
//! `hip_runtime_api.h` of ROCm 6, `c10/core/Allocator.h` of PyTorch 2.11.

use leak_common::gpu::{Call, does, layer, memory};

/// A library with such calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Library {
    /// CUDA's driver.
    Cuda,
    /// CUDA's runtime.
    CudaRuntime,
    /// AMD's driver and runtime in one.
    Hip,
    /// torch's core, to which its allocators report.
    Torch,
}

impl Library {
    /// The library in a file of this name. Wheels put a hash into it: `libcudart-a7b20f20.so.11.0`.
    #[must_use]
    pub fn of(file_name: &str) -> Option<Self> {
        let (stem, rest) = file_name.split_once(".so")?;
        if !(rest.is_empty() || rest.starts_with('.')) {
            return None;
        }
        match stem.split('-').next()? {
            "libcuda" => Some(Self::Cuda),
            "libcudart" => Some(Self::CudaRuntime),
            "libamdhip64" => Some(Self::Hip),
            "libc10" => Some(Self::Torch),
            _ => None,
        }
    }

    fn layer(self) -> u32 {
        match self {
            Self::Cuda | Self::Hip => layer::DRIVER,
            Self::CudaRuntime => layer::RUNTIME,
            Self::Torch => layer::ALLOCATOR,
        }
    }
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Where it is.
    pub library: Library,
    /// Its symbol.
    pub symbol: &'static str,
    /// One of [`does`].
    pub does: u32,
    /// One of [`memory`].
    pub memory: u32,
}

const fn row(library: Library, symbol: &'static str, does: u32, memory: u32) -> Row {
    Row { library, symbol, does, memory }
}

/// All of them. The kernel side refers to them by number.
pub const ROWS: [Row; 59] = {
    use Library::{Cuda, CudaRuntime, Hip, Torch};
    use does::{
        ADOPT, ALLOCATE, ALLOCATE_ROWS, CREATE, FREE, MAP, RELEASE, REPORT, REPORT_FAILURE, RESET,
        UNMAP,
    };
    use memory::{DEVICE, MANAGED, PHYSICAL, PINNED, POOLED, REGISTERED, TENSOR};
    [
        row(Cuda, "cuMemAlloc_v2", ALLOCATE, DEVICE),
        row(Cuda, "cuMemAllocPitch_v2", ALLOCATE_ROWS, DEVICE),
        row(Cuda, "cuMemAllocManaged", ALLOCATE, MANAGED),
        row(Cuda, "cuMemAllocAsync", ALLOCATE, POOLED),
        row(Cuda, "cuMemAllocAsync_ptsz", ALLOCATE, POOLED),
        row(Cuda, "cuMemAllocFromPoolAsync", ALLOCATE, POOLED),
        row(Cuda, "cuMemAllocFromPoolAsync_ptsz", ALLOCATE, POOLED),
        row(Cuda, "cuMemFree_v2", FREE, DEVICE),
        row(Cuda, "cuMemFreeAsync", FREE, POOLED),
        row(Cuda, "cuMemFreeAsync_ptsz", FREE, POOLED),
        row(Cuda, "cuMemCreate", CREATE, PHYSICAL),
        row(Cuda, "cuMemRelease", RELEASE, PHYSICAL),
        row(Cuda, "cuMemMap", MAP, PHYSICAL),
        row(Cuda, "cuMemUnmap", UNMAP, PHYSICAL),
        row(Cuda, "cuMemAllocHost_v2", ALLOCATE, PINNED),
        row(Cuda, "cuMemHostAlloc", ALLOCATE, PINNED),
        row(Cuda, "cuMemFreeHost", FREE, PINNED),
        row(Cuda, "cuMemHostRegister_v2", ADOPT, REGISTERED),
        row(Cuda, "cuMemHostUnregister", FREE, REGISTERED),
        row(Cuda, "cuCtxDestroy_v2", RESET, DEVICE),
        row(Cuda, "cuDevicePrimaryCtxReset_v2", RESET, DEVICE),
        row(CudaRuntime, "cudaMalloc", ALLOCATE, DEVICE),
        row(CudaRuntime, "cudaMallocPitch", ALLOCATE_ROWS, DEVICE),
        row(CudaRuntime, "cudaMallocManaged", ALLOCATE, MANAGED),
        row(CudaRuntime, "cudaMallocAsync", ALLOCATE, POOLED),
        row(CudaRuntime, "cudaMallocAsync_ptsz", ALLOCATE, POOLED),
        row(CudaRuntime, "cudaMallocFromPoolAsync", ALLOCATE, POOLED),
        row(CudaRuntime, "cudaMallocFromPoolAsync_ptsz", ALLOCATE, POOLED),
        row(CudaRuntime, "cudaFree", FREE, DEVICE),
        row(CudaRuntime, "cudaFreeAsync", FREE, POOLED),
        row(CudaRuntime, "cudaFreeAsync_ptsz", FREE, POOLED),
        row(CudaRuntime, "cudaMallocHost", ALLOCATE, PINNED),
        row(CudaRuntime, "cudaHostAlloc", ALLOCATE, PINNED),
        row(CudaRuntime, "cudaFreeHost", FREE, PINNED),
        row(CudaRuntime, "cudaHostRegister", ADOPT, REGISTERED),
        row(CudaRuntime, "cudaHostUnregister", FREE, REGISTERED),
        row(Hip, "hipMalloc", ALLOCATE, DEVICE),
        row(Hip, "hipExtMallocWithFlags", ALLOCATE, DEVICE),
        row(Hip, "hipMallocPitch", ALLOCATE_ROWS, DEVICE),
        row(Hip, "hipMallocManaged", ALLOCATE, MANAGED),
        row(Hip, "hipMallocAsync", ALLOCATE, POOLED),
        row(Hip, "hipMallocFromPoolAsync", ALLOCATE, POOLED),
        row(Hip, "hipFree", FREE, DEVICE),
        row(Hip, "hipFreeAsync", FREE, POOLED),
        row(Hip, "hipMemCreate", CREATE, PHYSICAL),
        row(Hip, "hipMemRelease", RELEASE, PHYSICAL),
        row(Hip, "hipMemMap", MAP, PHYSICAL),
        row(Hip, "hipMemUnmap", UNMAP, PHYSICAL),
        row(Hip, "hipHostMalloc", ALLOCATE, PINNED),
        row(Hip, "hipHostAlloc", ALLOCATE, PINNED),
        row(Hip, "hipHostFree", FREE, PINNED),
        row(Hip, "hipFreeHost", FREE, PINNED),
        row(Hip, "hipHostRegister", ADOPT, REGISTERED),
        row(Hip, "hipHostUnregister", FREE, REGISTERED),
        row(Hip, "hipCtxDestroy", RESET, DEVICE),
        row(Hip, "hipDeviceReset", RESET, DEVICE),
        row(Hip, "hipDevicePrimaryCtxReset", RESET, DEVICE),
        row(Torch, "_ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE", REPORT, TENSOR),
        row(Torch, "_ZN3c1027reportOutOfMemoryToProfilerElmmNS_6DeviceE", REPORT_FAILURE, TENSOR),
    ]
};

impl Row {
    /// The row as the kernel side has it.
    #[must_use]
    pub fn call(&self, number: u32) -> Call {
        Call { number, does: self.does, memory: self.memory, layer: self.library.layer() }
    }

    /// The programs that watch it: at its entry, and whether another at its return.
    #[must_use]
    pub fn programs(&self) -> (&'static str, bool) {
        match self.does {
            does::FREE | does::RELEASE | does::UNMAP | does::RESET => ("gpu_free", false),
            does::REPORT => ("torch_report", false),
            does::REPORT_FAILURE => ("torch_failure", false),
            _ => ("gpu_enter", true),
        }
    }
}

/// What people call a call.
#[must_use]
pub fn name(number: u32) -> &'static str {
    match usize::try_from(number).ok().and_then(|number| ROWS.get(number)) {
        Some(row) if row.library == Library::Torch => "torch's allocator",
        Some(row) => row.symbol.trim_end_matches("_ptsz").trim_end_matches("_v2"),
        None => "?",
    }
}

/// What people call a kind of memory.
#[must_use]
pub fn memory_name(memory: u32) -> &'static str {
    match memory {
        memory::DEVICE => "device",
        memory::MANAGED => "managed",
        memory::POOLED => "pooled",
        memory::PINNED => "pinned",
        memory::REGISTERED => "registered",
        memory::PHYSICAL => "physical",
        memory::TENSOR => "tensor",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_by_their_files_names() {
        assert_eq!(Library::of("libcuda.so.580.159.04"), Some(Library::Cuda));
        assert_eq!(Library::of("libcuda.so.1"), Some(Library::Cuda));
        assert_eq!(Library::of("libcudart.so.13"), Some(Library::CudaRuntime));
        assert_eq!(Library::of("libcudart-a7b20f20.so.11.0"), Some(Library::CudaRuntime));
        assert_eq!(Library::of("libc10.so"), Some(Library::Torch));
        for other in ["libcudadebugger.so.1", "libc10_cuda.so", "libcuda.sock", "libcuda", ""] {
            assert_eq!(Library::of(other), None, "{other}");
        }
    }

    #[test]
    fn each_call_is_named_once_and_as_the_user_knows_it() {
        for (n, row) in ROWS.iter().enumerate() {
            let same = ROWS.iter().filter(|other| other.symbol == row.symbol);
            assert_eq!(same.count(), 1, "{n}: {}", row.symbol);
            assert!((row.memory as usize) < memory::KINDS);
        }
        assert_eq!(name(0), "cuMemAlloc");
        assert_eq!(name(4), "cuMemAllocAsync");
        assert_eq!(name(u32::MAX), "?");
    }
}
