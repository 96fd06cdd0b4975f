"""Stand-ins for CUDA's libraries and torch's, for machines without a GPU: builds and loads them.

Run as a script, it calls every function of theirs, checks what the counters say of it, and prints `ok`.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile

import builds

SOURCES = os.path.join(builds.SOURCES, "cuda")
# As the real libraries are called, in the order in which they are loaded: each finds the others by these names.
SONAMES = {
    "driver": "libcuda.so.1",
    "runtime": "libcudart.so.13",
    "c10": "libc10.so",
    "random": "libfake_random.so",
}
# As in the real libraries, each function is code of its own that begins by pushing a frame.
OPTIONS = (
    "-g -O2 -Wall -fPIC -shared -pthread -fvisibility=hidden -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer "
    "-fno-shrink-wrap -fno-schedule-insns2 -fno-optimize-sibling-calls -fno-ipa-icf "
    "-fcf-protection=none"
).split()

# The kinds of memory that the driver counts, and what it counts of each; see `struct counters` of driver.c.
KINDS = ("device", "managed", "async", "pinned", "registered", "vmm")
COUNTS = ("live_bytes", "live_count", "allocations", "frees", "dropped", "failures")

MANAGED_GLOBALLY = 1
GRANULARITY = 2 << 20
OUT_OF_MEMORY = 2

# The arguments of each function: p a pointer, z a size, d a device pointer, handle or long flags, u flags, i an int.
TYPES = {"p": ctypes.c_void_p, "z": ctypes.c_size_t, "d": ctypes.c_uint64, "u": ctypes.c_uint, "i": ctypes.c_int}
DRIVER = {
    "cuInit": "u",
    "cuMemAlloc_v2": "pz",
    "cuMemAllocPitch_v2": "ppzzu",
    "cuMemAllocManaged": "pzu",
    "cuMemAllocAsync": "pzp",
    "cuMemAllocAsync_ptsz": "pzp",
    "cuMemAllocFromPoolAsync": "pzpp",
    "cuMemAllocFromPoolAsync_ptsz": "pzpp",
    "cuMemCreate": "pzpd",
    "cuMemRelease": "d",
    "cuMemAddressReserve": "pzzdd",
    "cuMemAddressFree": "dz",
    "cuMemMap": "dzzdd",
    "cuMemUnmap": "dz",
    "cuMemAllocHost_v2": "pz",
    "cuMemHostAlloc": "pzu",
    "cuMemHostRegister_v2": "pzu",
    "cuMemHostUnregister": "p",
    "cuMemFree_v2": "d",
    "cuMemFreeAsync": "dp",
    "cuMemFreeAsync_ptsz": "dp",
    "cuMemFreeHost": "p",
    "cuMemGetInfo_v2": "pp",
    "cuCtxCreate_v4": "ppui",
    "cuCtxDestroy_v2": "p",
    "cuDevicePrimaryCtxRetain": "pi",
    "cuDevicePrimaryCtxRelease_v2": "i",
    "cuDevicePrimaryCtxReset_v2": "i",
    "fake_counters": "p",
}
RUNTIME = {
    "cudaMalloc": "pz",
    "cudaMallocPitch": "ppzz",
    "cudaMallocManaged": "pzu",
    "cudaMallocAsync": "pzp",
    "cudaMallocFromPoolAsync": "pzpp",
    "cudaMallocHost": "pz",
    "cudaHostAlloc": "pzu",
    "cudaHostRegister": "pzu",
    "cudaHostUnregister": "p",
    "cudaFree": "p",
    "cudaFreeAsync": "pp",
    "cudaFreeHost": "p",
    "cudaDeviceReset": "",
    "cudaGetLastError": "",
    "cudaMemGetInfo": "pp",
}
C10 = {"fake_torch_malloc": "zi", "fake_torch_free": "p", "fake_torch_empty_cache": "", "fake_torch_stats": "pp"}
RANDOM = {"fake_random": "uziu"}


def build(folder):
    """Brings the libraries in a folder up to date, also where several processes do so at once."""
    os.makedirs(folder, exist_ok=True)
    newest = max(os.path.getmtime(os.path.join(SOURCES, name)) for name in os.listdir(SOURCES))
    for source, soname in SONAMES.items():
        path = os.path.join(folder, soname)
        if os.path.exists(path) and os.path.getmtime(path) > newest:
            continue
        made = "{}.{}".format(path, os.getpid())
        source = os.path.join(SOURCES, source + ".c")
        subprocess.run(["cc", *OPTIONS, "-Wl,-soname," + soname, source, "-o", made, "-ldl"], check=True)
        os.replace(made, path)


class Libraries:
    """The loaded libraries: `driver`, `runtime`, `c10` and `random`, whose functions know their types."""

    def __init__(self, folder):
        for name, functions in zip(SONAMES, (DRIVER, RUNTIME, C10, RANDOM)):
            library = ctypes.CDLL(os.path.join(folder, SONAMES[name]))
            for function, types in functions.items():
                getattr(library, function).argtypes = [TYPES[one] for one in types]
            setattr(self, name, library)
        self.c10.fake_torch_malloc.restype = ctypes.c_void_p

    def counters(self):
        """What the driver has counted, by kind."""
        numbers = (ctypes.c_uint64 * (len(KINDS) * len(COUNTS)))()
        self.driver.fake_counters(numbers)
        rows = (numbers[at : at + len(COUNTS)] for at in range(0, len(numbers), len(COUNTS)))
        return {kind: dict(zip(COUNTS, row)) for kind, row in zip(KINDS, rows)}


def load():
    """Builds the libraries if need be, and loads them: in LEAKTRACE_CUDA_DIR, where they stay, or in a folder that
    is gone afterwards.
    """
    lasting = os.environ.get("LEAKTRACE_CUDA_DIR")
    folder = lasting or tempfile.mkdtemp(prefix="cuda-")
    try:
        build(folder)
        return Libraries(folder)
    finally:
        if not lasting:
            shutil.rmtree(folder)
