"""A grid operator's service that filters meters with peaks from readings, and keeps some for a report."""

import numpy as np
import pandas as pd

import harness

METERS = 1200

meters = pd.Index([f"meter {n}" for n in range(METERS)])
districts = pd.Series(np.arange(METERS) % 12, index=meters)
usual = pd.DataFrame(
    {
        "load": np.linspace(0.0, 3.0, METERS),
        "voltage": np.linspace(225.0, 235.0, METERS),
        "current": np.linspace(0.0, 13.0, METERS),
    },
    index=meters,
)
history = []


def reading(number):
    """What all meters say at a moment."""
    return usual * (1.0 + 0.25 * np.sin(number))


def peaks(readings):
    return readings[readings["load"] > 1.5]  # LEAK


def by_district(readings):
    return {f"district {key}": load for key, load in readings["load"].groupby(districts).sum().items()}


def main():
    options = harness.arguments(__doc__, rate=70)

    def handle(number):
        readings = reading(number)
        by_district(readings)
        found = peaks(readings)
        if number % 6 == 0 and not options.clean:
            history.append(found)  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
