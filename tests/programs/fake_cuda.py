"""Stand-ins for CUDA's libraries and torch's, for machines without a GPU: builds and loads them.

Run as a script, it calls every function of theirs, checks what the counters say of it, and prints `ok`.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile

import builds

SOURCES = os.path.join(builds.SOURCES, "cuda")
# As the real libraries are called, in the order in which they are loaded: each finds the others by these names.
SONAMES = {
    "driver": "libcuda.so.1",
    "runtime": "libcudart.so.13",
    "core": "libc10.so",
    "c10": "libc10_cuda.so",
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
    sources = [os.path.join(SOURCES, name) for name in os.listdir(SOURCES)]
    newest = max(os.path.getmtime(path) for path in [__file__, *sources])
    for name, soname in SONAMES.items():
        path = os.path.join(folder, soname)
        if os.path.exists(path) and os.path.getmtime(path) > newest:
            continue
        made = "{}.{}".format(path, os.getpid())
        source = os.path.join(SOURCES, name + ".c")
        command = ["cc", *OPTIONS, "-Wl,-soname," + soname, source, "-o", made, "-ldl"]
        if name == "c10":
            command.append(os.path.join(folder, SONAMES["core"]))
        subprocess.run(command, check=True)
        os.replace(made, path)


class Libraries:
    """The loaded libraries: `driver`, `runtime`, `c10` and `random`, whose functions know their types."""

    def __init__(self, folder):
        for name, functions in zip(SONAMES, (DRIVER, RUNTIME, {}, C10, RANDOM)):
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


class Check:
    """Calls every function, and compares what the counters say with what it did."""

    ROOM = 256 << 20
    INVALID_VALUE = 1

    def __init__(self):
        os.environ["FAKE_CUDA_BYTES"] = str(self.ROOM)
        self.libraries = load()
        self.called = set()

    def call(self, name, *args, result=0):
        """Calls a function, which must give this result."""
        self.called.add(name)
        for library in (self.libraries.driver, self.libraries.runtime, self.libraries.c10):
            if hasattr(library, name):
                given = getattr(library, name)(*args)
                break
        assert given == result, (name, args, given)

    def take(self, name, *args, result=0):
        """The same of one that writes an address first."""
        pointer = ctypes.c_uint64()
        self.call(name, ctypes.byref(pointer), *args, result=result)
        return pointer.value

    def expect(self, kind, **counts):
        counters = self.libraries.counters()[kind]
        assert counters["allocations"] == counters["frees"] + counters["dropped"] + counters["live_count"], counters
        for name, count in counts.items():
            assert counters[name] == count, (kind, name, count, counters)

    def free_bytes(self, name):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call(name, ctypes.byref(free), ctypes.byref(total))
        assert total.value == self.ROOM, total
        return free.value

    def device(self):
        self.call("cuInit", 0)
        first = self.take("cuMemAlloc_v2", 1000)
        second = self.take("cuMemAlloc_v2", 1000)
        assert first % 512 == 0 and abs(second - first) >= 1000
        self.call("cuMemFree_v2", first)
        assert self.take("cuMemAlloc_v2", 900) == first
        self.expect("device", live_bytes=1900, live_count=2, allocations=3, frees=1, failures=0)
        assert self.free_bytes("cuMemGetInfo_v2") == self.ROOM - 1900
        self.take("cuMemAlloc_v2", self.ROOM, result=OUT_OF_MEMORY)
        self.take("cuMemAlloc_v2", 0, result=self.INVALID_VALUE)
        self.call("cuMemFree_v2", 4711, result=self.INVALID_VALUE)
        self.call("cuMemFree_v2", 0)
        pitch = ctypes.c_size_t()
        third = self.take("cuMemAllocPitch_v2", ctypes.byref(pitch), 700, 3, 4)
        assert pitch.value == 1024
        self.expect("device", live_bytes=1900 + 3 * 1024, live_count=3, frees=1, failures=2)
        for pointer in (first, second, third):
            self.call("cuMemFree_v2", pointer)
        self.call("cuMemFree_v2", third, result=self.INVALID_VALUE)
        self.expect("device", live_bytes=0, live_count=0, allocations=4, frees=4)

    def managed_and_async(self):
        self.call("cuMemFree_v2", self.take("cuMemAllocManaged", 5000, MANAGED_GLOBALLY))
        self.expect("managed", live_bytes=0, allocations=1, frees=1)
        pointers = [
            self.take("cuMemAllocAsync", 100, None),
            self.take("cuMemAllocAsync_ptsz", 200, None),
            self.take("cuMemAllocFromPoolAsync", 300, None, None),
            self.take("cuMemAllocFromPoolAsync_ptsz", 400, None, None),
        ]
        self.expect("async", live_bytes=1000, live_count=4)
        self.call("cuMemFreeAsync", pointers[0], None)
        self.call("cuMemFreeAsync_ptsz", pointers[1], None)
        self.call("cuMemFree_v2", pointers[2])
        self.expect("async", live_bytes=400, live_count=1, frees=3)
        self.call("cuMemFreeAsync", pointers[3], None)

    def host(self):
        pointers = [self.take("cuMemAllocHost_v2", 10000), self.take("cuMemHostAlloc", 20000, 0)]
        for pointer in pointers:
            ctypes.memset(pointer, 7, 10000)
        self.expect("pinned", live_bytes=30000, live_count=2)
        self.take("cuMemHostAlloc", 1 << 46, 0, result=OUT_OF_MEMORY)
        self.call("cuMemFree_v2", pointers[0], result=self.INVALID_VALUE)
        for pointer in pointers:
            self.call("cuMemFreeHost", pointer)
        self.expect("pinned", live_bytes=0, frees=2, failures=1)
        memory = ctypes.create_string_buffer(4096)
        self.call("cuMemHostRegister_v2", memory, 4096, 0)
        self.call("cuMemHostRegister_v2", memory, 4096, 0, result=self.INVALID_VALUE)
        self.expect("registered", live_bytes=4096, live_count=1, failures=1)
        self.call("cuMemHostUnregister", memory)
        self.call("cuMemHostUnregister", memory, result=self.INVALID_VALUE)
        self.expect("registered", live_bytes=0, frees=1)

    def mapped(self):
        """Memory goes when it is both unmapped and released, in either order."""
        size = 2 * GRANULARITY
        self.take("cuMemCreate", 4096, None, 0, result=self.INVALID_VALUE)
        first, second = (self.take("cuMemCreate", GRANULARITY, None, 0) for _ in range(2))
        pointer = self.take("cuMemAddressReserve", size, 0, 0, 0)
        self.call("cuMemMap", pointer, GRANULARITY, 0, first, 0)
        self.call("cuMemMap", pointer, GRANULARITY, 0, second, 0, result=self.INVALID_VALUE)
        self.call("cuMemMap", pointer + GRANULARITY, GRANULARITY, 0, second, 0)
        self.call("cuMemRelease", first)
        self.call("cuMemRelease", first, result=self.INVALID_VALUE)
        self.expect("vmm", live_bytes=size, live_count=2, frees=0)
        self.call("cuMemUnmap", pointer, GRANULARITY // 2, result=self.INVALID_VALUE)
        self.call("cuMemUnmap", pointer, size)
        self.expect("vmm", live_bytes=GRANULARITY, live_count=1, frees=1)
        self.call("cuMemRelease", second)
        self.call("cuMemAddressFree", pointer, size)
        self.call("cuMemAddressFree", pointer, size, result=self.INVALID_VALUE)
        self.expect("vmm", live_bytes=0, allocations=2, frees=2, failures=1)

    def contexts(self):
        """What is left of the device's memory goes with its context."""
        context = ctypes.c_void_p()
        self.call("cuCtxCreate_v4", ctypes.byref(context), None, 0, 0)
        ends = [("cuCtxDestroy_v2", context), ("cuDevicePrimaryCtxReset_v2", 0)]
        ends += [("cuDevicePrimaryCtxRelease_v2", 0), ("cudaDeviceReset",)]
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        for number, end in enumerate(ends, 1):
            self.take("cuMemAlloc_v2", 100)
            self.take("cuMemAllocManaged", 100, MANAGED_GLOBALLY)
            self.take("cuMemAllocAsync", 100, None)
            self.call(*end)
            for kind in ("device", "managed", "async"):
                self.expect(kind, live_bytes=0, live_count=0, dropped=number)
        self.call("cuMemFree_v2", self.take("cuMemAlloc_v2", 100))

    def runtime(self):
        before = self.libraries.counters()
        pitch = ctypes.c_size_t()
        device = [self.take("cudaMalloc", 100), self.take("cudaMallocPitch", ctypes.byref(pitch), 100, 2)]
        device += [self.take("cudaMallocManaged", 100, MANAGED_GLOBALLY)]
        ordered = [self.take("cudaMallocAsync", 100, None), self.take("cudaMallocFromPoolAsync", 100, None, None)]
        host = [self.take("cudaMallocHost", 100), self.take("cudaHostAlloc", 100, 0)]
        memory = ctypes.create_string_buffer(4096)
        self.call("cudaHostRegister", memory, 4096, 0)
        free = self.ROOM - 1024 - 4 * 100
        assert self.free_bytes("cudaMemGetInfo") == free
        self.take("cudaMalloc", free + 1, result=OUT_OF_MEMORY)
        self.call("cudaGetLastError", result=OUT_OF_MEMORY)
        self.call("cudaGetLastError")
        assert self.take("cudaMalloc", 0) == 0
        for pointer in device:
            self.call("cudaFree", pointer)
        for pointer in ordered:
            self.call("cudaFreeAsync", pointer, None)
        for pointer in host:
            self.call("cudaFreeHost", pointer)
        self.call("cudaHostUnregister", memory)
        self.call("cudaFree", None)
        self.call("cudaFree", 4711, result=self.INVALID_VALUE)
        for kind, number in zip(KINDS, (2, 1, 2, 2, 1, 0)):
            self.expect(kind, live_bytes=0, frees=before[kind]["frees"] + number)

    def torch(self):
        stats = [ctypes.c_uint64(), ctypes.c_uint64()]

        def expect(allocated, reserved):
            c10.fake_torch_stats(*map(ctypes.byref, stats))
            assert [one.value for one in stats] == [allocated, reserved], stats
            self.expect("device", live_bytes=reserved)

        c10 = self.libraries.c10
        self.called.update(C10)
        sizes = (1, 513, 1 << 20, 3 << 20, 30 << 20)
        pointers = [c10.fake_torch_malloc(size, 0) for size in sizes]
        rounded = 512 + 1024 + (1 << 20) + (3 << 20) + (30 << 20)
        expect(rounded, (2 + 20 + 30) << 20)
        assert c10.fake_torch_malloc(self.ROOM, 0) is None
        expect(rounded, (2 + 20 + 30) << 20)
        for pointer in pointers[::2] + pointers[1::2]:
            c10.fake_torch_free(pointer)
        expect(0, (2 + 20 + 30) << 20)
        # It's all one block again.
        c10.fake_torch_free(c10.fake_torch_malloc(20 << 20, 0))
        expect(0, (2 + 20 + 30) << 20)
        c10.fake_torch_empty_cache()
        expect(0, 0)

    def random(self):
        self.libraries.random.fake_random(1, 20000, 0, 0)
        self.libraries.random.fake_random(2, 20000, 1, 0)
        for kind in KINDS:
            self.expect(kind, live_bytes=0, live_count=0)
            assert self.libraries.counters()[kind]["failures"] > 3, kind

    def code(self):
        """Each function begins by pushing a frame: push %rbp."""
        for library, functions in ((self.libraries.driver, DRIVER), (self.libraries.runtime, RUNTIME)):
            for name in functions:
                address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
                assert ctypes.string_at(address, 1) == b"\x55", name

    def all(self):
        parts = (self.device, self.managed_and_async, self.host, self.mapped, self.contexts, self.runtime)
        for part in parts + (self.torch, self.random):
            part()
        if platform.machine() == "x86_64":
            self.code()
        left = {*DRIVER, *RUNTIME, *C10} - self.called - {"fake_counters"}
        assert not left, left
        print("ok")


if __name__ == "__main__":
    Check().all()
