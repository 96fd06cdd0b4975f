"""Memory from the kernel: anonymous maps of 64 KB, four a request, of which one is never closed."""
# domain: mmap
# kept by: __main__.buffers

import mmap

import harness

SIZE = 64 * 1024

buffers = []


def scratch(number):
    """A map that is written to and given back."""
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        fill(area, number)


def fill(area, number):
    for at in range(0, SIZE, mmap.PAGESIZE):
        area[at] = number & 255


def remember(number):
    area = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # LEAK
    fill_kept(area, number)
    buffers.append(area)


def fill_kept(area, number):
    """Touches a kept map: its pages become resident here, line by line of the same leak."""
    for at in range(0, SIZE, mmap.PAGESIZE):
        area[at] = number & 255  # LEAK


def main():
    options = harness.arguments(__doc__, rate=100)

    def handle(number):
        for _ in range(3):
            scratch(number)
        if options.clean:
            scratch(number)
        else:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
