"""Loads the CUDA runtime only `--after` so many seconds of service; then 64 KiB a request of its memory stay."""
# domain: cuda

import ctypes
import time

import fake_cuda
import harness

SIZE = 64 * 1024

kept = []


def churn(runtime, number):
    pointer = ctypes.c_void_p()
    for n in range(5):
        runtime.cudaMalloc(ctypes.byref(pointer), 4096 << n + number % 5)
        runtime.cudaFree(pointer)


def remember(runtime):
    pointer = ctypes.c_void_p()  # LEAK
    runtime.cudaMalloc(ctypes.byref(pointer), SIZE)  # LEAK
    kept.append(pointer)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=200, after=5.0)
    runtime = None
    due = None

    def handle(number):
        nonlocal runtime, due
        if runtime is not None:
            churn(runtime, number)
            if not options.clean:
                remember(runtime)
        elif due is None:
            # The requests that warm up don't count.
            due = time.monotonic() + options.after if number == harness.WARM_UP else None
        elif time.monotonic() >= due:
            runtime = fake_cuda.load().runtime

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
