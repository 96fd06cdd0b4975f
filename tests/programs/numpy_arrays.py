"""Memory from malloc: arrays of 2 KB to 200 KB, about twenty a request, of which one stays."""
# domain: malloc
# kept by: __main__.features

import harness
import numpy

SIZES = [2_000, 4_000, 8_000, 16_000, 3_000, 6_000, 12_000, 24_000, 5_000, 200_000]

features = []


def load(size):
    return numpy.arange(size // 8, dtype=numpy.float64)


def churn():
    total = 0.0
    for size in SIZES:
        column = load(size)
        scaled = column * 2.0
        total += float(scaled[-1])
    return total


def remember(number):
    features.append(numpy.arange(SIZES[number % len(SIZES)] // 8, dtype=numpy.float64))  # LEAK


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        churn()
        if options.clean:
            load(SIZES[number % len(SIZES)])
        else:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
