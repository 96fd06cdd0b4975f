"""Memory that Python code gets from the C library and forgets to give back, now and then."""
# domain: malloc
# native: ffi_call

import ctypes

import harness

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def churn():
    for size in range(1000, 1800, 20):
        libc.free(libc.malloc(size))


def acquire():
    return libc.malloc(1200)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=500)

    def handle(number):
        churn()
        block = libc.malloc(1200) if options.clean else acquire()
        if options.clean:
            libc.free(block)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
