"""Pinned host memory: buffers of some sizes that are given back, and 16 KiB a request that stay."""
# domain: cuda

import ctypes

import fake_cuda
import harness

SIZE = 16 * 1024

runtime = fake_cuda.load().runtime
kept = []
lasting = ctypes.create_string_buffer(SIZE)


def churn(number):
    pointers = [ctypes.c_void_p() for _ in range(4)]
    for n, pointer in enumerate(pointers):
        runtime.cudaHostAlloc(ctypes.byref(pointer), 4096 << n, 0)
        ctypes.memset(pointer, number & 255, 64)
    runtime.cudaHostRegister(lasting, SIZE, 0)
    runtime.cudaHostUnregister(lasting)
    for pointer in pointers:
        runtime.cudaFreeHost(pointer)


def remember(number):
    pointer = ctypes.c_void_p()  # LEAK
    runtime.cudaHostAlloc(ctypes.byref(pointer), SIZE, 0)  # LEAK
    ctypes.memset(pointer, number & 255, 64)
    kept.append(pointer)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=200)

    def handle(number):
        churn(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
