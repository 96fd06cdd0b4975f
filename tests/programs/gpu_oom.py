"""Fills most of a small device with what it needs, then asks in vain for more now and then, and keeps 1 KiB a request.

`--device` is the device's size in MiB.
"""
# domain: cuda

import ctypes
import os

import fake_cuda
import harness

MIB = 1 << 20
SIZE = 1024
BLOCK = 16 * MIB

kept = []


def fill(libraries, room):
    """What a program needs all along: three quarters of the device."""
    pointer = ctypes.c_void_p()
    for _ in range(room * 3 // 4 // BLOCK):
        if libraries.runtime.cudaMalloc(ctypes.byref(pointer), BLOCK):
            raise MemoryError("the device is too small")


def churn(libraries, number):
    pointer = ctypes.c_void_p()
    libraries.runtime.cudaMalloc(ctypes.byref(pointer), 1 + number % 64 * 4096)
    libraries.runtime.cudaFree(pointer)
    libraries.c10.fake_torch_free(libraries.c10.fake_torch_malloc(1 + number % 64 * 4096, 0))


def ask_too_much(libraries, number, room):
    pointer = ctypes.c_void_p()
    if number % 100 == 0:
        failed = libraries.runtime.cudaMalloc(ctypes.byref(pointer), room // 2) == fake_cuda.OUT_OF_MEMORY
        failed = failed and libraries.runtime.cudaGetLastError() == fake_cuda.OUT_OF_MEMORY
    else:
        failed = libraries.c10.fake_torch_malloc(room // 2, 0) is None
    if not failed:
        raise AssertionError("the device had room for too much")


def remember(libraries):
    pointer = ctypes.c_void_p()  # LEAK
    if libraries.runtime.cudaMalloc(ctypes.byref(pointer), SIZE) == 0:  # LEAK
        kept.append(pointer)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=200, device=1024)
    room = int(options.device) * MIB
    os.environ["FAKE_CUDA_BYTES"] = str(room)
    libraries = fake_cuda.load()
    fill(libraries, room)

    def handle(number):
        churn(libraries, number)
        if number % 50 == 0:
            ask_too_much(libraries, number, room)
        if not options.clean:
            remember(libraries)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
