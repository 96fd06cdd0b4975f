"""A service whose memory is of one kind, and stays: `--kind` says of which. It goes on serving small requests.

pymalloc: many small objects. numpy: arrays. fragmented: every other of 100,000 blocks of the C library's is free.
burst: small objects came and went, all but one in some thousands, so that Python's arenas stay.
"""
# domain: malloc

import argparse
import ctypes
import sys
import time

BLOCKS, BLOCK = 100_000, 1000


def fragmented():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        libc.memset(block, 1, BLOCK)
    for block in blocks[::2]:
        libc.free(block)
    return blocks[1::2]


def numpy():
    import numpy

    return [numpy.ones(5_000_000 // 8 + n) for n in range(20)]


def burst():
    many = [(n, [n]) for n in range(500_000)]
    return many[::4000]


KINDS = {
    "pymalloc": lambda: [(n, [n]) for n in range(500_000)],
    "numpy": numpy,
    "fragmented": fragmented,
    "burst": burst,
}


def request(number):
    return len([f"field {n} of {number}" for n in range(300)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=KINDS, required=True)
    options = parser.parse_args()
    held = KINDS[options.kind]()
    print("ready", flush=True)
    number = 0
    while True:
        request(number)
        number += 1
        time.sleep(0.001)
    del held


if __name__ == "__main__":
    sys.exit(main())
