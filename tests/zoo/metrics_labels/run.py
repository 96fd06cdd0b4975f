"""A parcel tracker with its own metrics: a histogram by path, where each path has a parcel's number in it."""

import bisect

import harness

BOUNDS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)


class Histogram:
    """Counts values by the names that its labels have and by size."""

    def __init__(self):
        self.series = {}

    def observe(self, labels, value):
        if labels not in self.series:
            self.series[labels] = [0] * (len(BOUNDS) + 1)  # LEAK
        self.series[labels][bisect.bisect(BOUNDS, value)] += 1


durations = Histogram()


def track(number):
    """A parcel's stations; returns how long it took to find them, as if it were milliseconds."""
    stations = [{"town": f"town {(number + n) % 400}", "hour": n * 1.5} for n in range(250)]
    late = sorted(station["town"] for station in stations if station["hour"] > 24)
    return len(late) % 60 + number % 40 / 2


def path_of(number):
    return f"/parcels/{number * 7919 % 1_000_003}/stations"  # LEAK


def main():
    options = harness.arguments(__doc__, rate=400)

    def handle(number):
        took = track(number)
        durations.observe(("GET", path_of(number), "200"), took)  # LEAK
        if options.clean:
            durations.series.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
