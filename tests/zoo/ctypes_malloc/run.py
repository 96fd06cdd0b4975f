"""A label printer's driver that gives bitmaps to the C library and never frees those of express parcels."""

import ctypes

import harness

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.memmove.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memmove.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def bitmap(number):
    """A label's dots: 1 to 4 kB."""
    return bytes((number & 255,)) * (1024 + number * 331 % 3072)


def print_label(number):
    dots = bitmap(number)
    block = libc.memmove(libc.malloc(len(dots)), dots, len(dots))
    libc.free(block)


def print_express(number, clean):
    dots = bitmap(number)
    block = libc.memmove(libc.malloc(len(dots)), dots, len(dots))  # LEAK
    if clean:
        libc.free(block)


def addresses(number):
    lines = [f"{(number + n) % 700} Main Street, floor {n}" for n in range(900)]
    return sorted(line.upper() for line in lines)


def main():
    options = harness.arguments(__doc__, rate=100)

    def handle(number):
        addresses(number)
        for parcel in range(40):
            print_label(number + parcel)
        print_express(number, options.clean)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
