"""Memory from malloc without any package: bytes of 600 B to 40 KB, about forty a request, of which two stay."""
# domain: malloc
# kept by: __main__.bodies

import harness

SIZES = [600, 900, 1_500, 4_000, 8_000, 16_000, 40_000, 700, 2_500, 12_000]

bodies = []


def churn(number):
    held = []
    for size in SIZES:
        held.append(bytes(size))
        held.append(bytearray(size + number % 64))
        if len(held) > 6:
            del held[:3]
    return len(held)


def remember(number):
    bodies.append(b"%d" % number * SIZES[number % 4])  # LEAK


def main():
    options = harness.arguments(__doc__, rate=500)

    def handle(number):
        churn(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
