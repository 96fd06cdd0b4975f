"""Device memory from the CUDA runtime: cudaMalloc and cudaFree of some sizes, and 64 KiB a request that stay."""
# domain: cuda

import ctypes

import fake_cuda
import harness

SIZE = 64 * 1024

runtime = fake_cuda.load().runtime
kept = []


def churn(number):
    pointers = [ctypes.c_void_p() for _ in range(5)]
    for n, pointer in enumerate(pointers):
        runtime.cudaMalloc(ctypes.byref(pointer), 4096 << n + number % 5)
    for pointer in pointers:
        runtime.cudaFree(pointer)


def remember():
    pointer = ctypes.c_void_p()  # LEAK
    runtime.cudaMalloc(ctypes.byref(pointer), SIZE)  # LEAK
    kept.append(pointer)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=200)

    def handle(number):
        churn(number)
        if not options.clean:
            remember()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
