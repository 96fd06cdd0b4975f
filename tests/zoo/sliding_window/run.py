"""A monitor of vibrations that keeps the latest samples of its sensors for its alarms.

Healthy: the window is full before the first request; each sample pushes the oldest out, after 10 s.
"""

import collections
import random
import statistics

import harness

WINDOW = 30_000
SAMPLES = 15

chance = random.Random(29)
window = collections.deque(maxlen=WINDOW)


class Sample:
    def __init__(self, number):
        self.sensor = f"sensor {number % 40}"
        self.values = (chance.random(), chance.gauss(0.0, 2.0))


def record(numbers):
    for number in numbers:
        window.append(Sample(number))


def spectrum(samples):
    """Many short-lived numbers and names, as of a filter bank."""
    filters = [(sample, band) for sample in samples for band in range(1, 51)]
    return max((sample.values[1] * band, f"{sample.sensor}, band {band}") for sample, band in filters)


def alarms(numbers):
    recent = [window[-offset] for offset in range(1, len(numbers) + 1)]
    mean = statistics.fmean(sample.values[0] for sample in recent)
    return [sample.sensor for sample in recent if sample.values[0] > mean], spectrum(recent)


def main():
    options = harness.arguments(__doc__, rate=200)
    record(range(WINDOW))

    def handle(number):
        numbers = range(number * SAMPLES, (number + 1) * SAMPLES)
        record(numbers)
        alarms(numbers)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
