"""Device memory from the CUDA driver: plain and stream-ordered memory that is given back, and mapped memory, of
which 64 KiB a request stay.
"""
# domain: cuda

import ctypes

import fake_cuda
import harness

# Mapped memory comes in whole granules, so that not each request can keep some.
REQUESTS = 32

driver = fake_cuda.load().driver
kept = []


def churn(number):
    pointer, ordered = ctypes.c_uint64(), ctypes.c_uint64()
    for n in range(3):
        driver.cuMemAlloc_v2(ctypes.byref(pointer), 4096 << n + number % 5)
        driver.cuMemAllocAsync(ctypes.byref(ordered), 1024 << n + number % 5, None)
        driver.cuMemFree_v2(pointer)
        driver.cuMemFreeAsync(ordered, None)


def map_for_now():
    handle, pointer = ctypes.c_uint64(), ctypes.c_uint64()
    driver.cuMemCreate(ctypes.byref(handle), fake_cuda.GRANULARITY, None, 0)
    driver.cuMemAddressReserve(ctypes.byref(pointer), fake_cuda.GRANULARITY, 0, 0, 0)
    driver.cuMemMap(pointer, fake_cuda.GRANULARITY, 0, handle, 0)
    driver.cuMemUnmap(pointer, fake_cuda.GRANULARITY)
    driver.cuMemRelease(handle)
    driver.cuMemAddressFree(pointer, fake_cuda.GRANULARITY)


def map_for_good():
    """Releases the handle; the mapping, which stays, keeps the memory."""
    handle, pointer = ctypes.c_uint64(), ctypes.c_uint64()  # LEAK
    driver.cuMemCreate(ctypes.byref(handle), fake_cuda.GRANULARITY, None, 0)  # LEAK
    driver.cuMemAddressReserve(ctypes.byref(pointer), fake_cuda.GRANULARITY, 0, 0, 0)
    driver.cuMemMap(pointer, fake_cuda.GRANULARITY, 0, handle, 0)
    driver.cuMemRelease(handle)
    kept.append(pointer)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=200)

    def handle(number):
        churn(number)
        if number % REQUESTS == 0:
            map_for_now()
            if not options.clean:
                map_for_good()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
