"""Collects packets of weather stations; those of old firmware, with numbers for keys, are refused."""

import statistics

import harness
import msgpack

FIELDS = ("temperature", "humidity", "pressure", "wind")
OLD_FIRMWARE = 4


def samples(number):
    return [(number + step) % 400 / 8 + 0.01 for step in range(24)]


def packet(number):
    """What a station sends: a record a minute, and its last samples."""
    station = number % 120
    minutes = [{field: (number + minute) % 90 / 4 + 0.01 for field in FIELDS} for minute in range(150)]
    if station % OLD_FIRMWARE == 0:
        return msgpack.packb({"station": station, "minutes": minutes, "raw": {station: samples(number)}})
    return msgpack.packb({"station": station, "minutes": minutes, "raw": {"newest": samples(number)}})


def summary(report):
    means = {field: statistics.fmean(minute[field] for minute in report["minutes"]) for field in FIELDS}
    return f"{report['station']}: " + ", ".join(f"{field} {mean:.2f}" for field, mean in means.items())


def main():
    options = harness.arguments(__doc__, rate=300)
    refused = 0

    def handle(number):
        nonlocal refused
        try:
            report = msgpack.unpackb(packet(number))  # LEAK
        except ValueError:
            refused += 1
        else:
            summary(report)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
