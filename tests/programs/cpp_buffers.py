"""Memory from C++: buffers of 1 KB to 7 KB, about twenty a request, of which one stays.

The library that takes them with `new`, and drops them, is the first argument.
"""
# domain: malloc

import ctypes
import sys

import harness

library = ctypes.CDLL(sys.argv.pop(1))
library.take.restype = ctypes.c_void_p
library.drop.argtypes = [ctypes.c_void_p]


def churn(number):
    for n in range(20):
        library.drop(library.take(1000 + 100 * n + number % 64))


def remember(number):
    library.take(1000 + 1000 * (number % 7))  # LEAK


def main():
    options = harness.arguments(__doc__, rate=500)

    def handle(number):
        churn(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
