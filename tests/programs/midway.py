"""Keeps bytes from malloc; once a line comes on its standard input, does what is asked while it is traced.

`trace`: starts tracemalloc. `import`: imports numpy, and from then on keeps arrays instead. `load FILE`:
loads a library and takes memory from its malloc.
"""
# domain: malloc

import ctypes
import sys
import threading

import harness

kept = []


def keep_bytes(number):
    kept.append(b"%d" % number * (300 + number % 300))  # LEAK


def keep_array(number):
    numpy = sys.modules["numpy"]
    kept.append(numpy.arange(500 + number % 500, dtype=numpy.float64))  # LEAK


def churn(number):
    return [bytes(1000 + n + number % 10) for n in range(20)]


def main():
    options = harness.arguments(__doc__, rate=500)
    keep = [keep_bytes]

    def obey():
        words = sys.stdin.readline().split()
        if words[:1] == ["trace"]:
            import tracemalloc

            tracemalloc.start()
        elif words[:1] == ["import"]:
            import numpy  # noqa: F401

            keep[0] = keep_array
        elif words[:1] == ["load"]:
            library = ctypes.CDLL(words[1])
            library.malloc.restype = ctypes.c_void_p
            library.malloc(1000)
        print("done", flush=True)

    threading.Thread(target=obey, daemon=True).start()

    def handle(number):
        churn(number)
        if not options.clean:
            keep[0](number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
