"""A collector of meter readings that sends them off in batches.

Healthy: a batch grows by megabytes for PERIOD seconds; then its sums are sent and all of it is dropped.
"""

import json
import time

import harness

PERIOD = 4.0
METERS = 400


class Reading:
    def __init__(self, meter, value, labels):
        self.meter = meter
        self.value = value
        self.labels = labels


class Batch:
    def __init__(self):
        self.readings = []
        self.due = time.monotonic() + PERIOD

    def add(self, reading):
        self.readings.append(reading)

    def flush_if_due(self):
        now = time.monotonic()
        if now >= self.due:
            self.send()
            self.readings.clear()
            self.due = now + PERIOD

    def send(self):
        sums = {}
        for reading in self.readings:
            sums[reading.meter] = sums.get(reading.meter, 0.0) + reading.value
        return json.dumps(sums)


def decoded(number):
    """A packet's readings: its text is parsed, and everything but meter, value and labels is dropped."""
    ticks = [tick * 0.5 for tick in range(number % 50, number % 50 + 30)]
    packet = json.dumps([{"meter": (number + n) % METERS, "ticks": ticks} for n in range(20)])
    for entry in json.loads(packet):
        meter = entry["meter"]
        labels = {"line": f"L{meter % 3}", "unit": "kWh", "packet": number}
        yield Reading(f"meter {meter}", sum(entry["ticks"]), labels)


def main():
    options = harness.arguments(__doc__, rate=300)
    batch = Batch()

    def handle(number):
        for reading in decoded(number):
            batch.add(reading)
        batch.flush_if_due()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
