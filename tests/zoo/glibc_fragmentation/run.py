"""A maker of thumbnails of 1 to 60 kB which now and then keeps one among the latest.

Healthy: LATEST thumbnails are kept from the start and no more. Resident memory rises for a while
nevertheless, as blocks of odd sizes leave holes in glibc's heap, and stays where the holes suffice.
"""

import random

import harness

LATEST = 1_000
REQUESTS_PER_KEPT = 4
LARGEST_GALLERY = 200
SMALLEST, LARGEST = 1_000, 60_000

chance = random.Random(3)


def thumbnail(number):
    """Pixels with a header; the sizes are as uneven as pictures are."""
    pixels = bytearray(chance.randrange(SMALLEST, LARGEST))
    pixels[:16] = number.to_bytes(16, "big")
    return pixels


def gallery_size():
    """Mostly a few pictures, seldom many."""
    return min(int(3 * chance.paretovariate(1)), LARGEST_GALLERY)


def checksum(pixels):
    """What a request spends its time on."""
    rows = [bytes(pixels[start : start + 400]) for start in range(0, len(pixels), 500)]
    return sum(hash(row) for row in rows)


def main():
    options = harness.arguments(__doc__, rate=150)
    latest = [thumbnail(number) for number in range(LATEST)]

    def handle(number):
        made = [thumbnail(number) for _ in range(gallery_size())]
        made.sort(key=checksum)
        if number % REQUESTS_PER_KEPT == 0:
            latest[chance.randrange(LATEST)] = chance.choice(made)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
