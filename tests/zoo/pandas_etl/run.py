"""Loads deliveries of varying size through pandas: cleaned, merged with their suppliers, and summed up.

Healthy: all frames of a delivery are dropped with it; what pandas caches is bounded.
"""

import random

import harness
import numpy
import pandas

SUPPLIERS = 200
SMALLEST, LARGEST = 100, 20_000

chance = random.Random(31)


def suppliers():
    number = numpy.arange(SUPPLIERS)
    countries = [f"country {n % 12}" for n in number]
    return pandas.DataFrame({"supplier": number, "country": countries, "fee": number % 5})


def delivery(number):
    """Most are small, some large."""
    rows = int(SMALLEST + (LARGEST - SMALLEST) * chance.random() ** 4)
    row = numpy.arange(number, number + rows)
    weights = numpy.where(row % 13 == 0, numpy.nan, row % 997 / 10.0)
    return pandas.DataFrame({"supplier": row * 31 % SUPPLIERS, "weight": weights, "crate": row % 17})


def summary(raw, known):
    merged = raw.dropna().merge(known, on="supplier")
    merged["cost"] = merged["weight"] * 0.4 + merged["fee"]
    return merged.groupby("country")["cost"].agg(["sum", "mean"]).sort_values("sum")


def main():
    options = harness.arguments(__doc__, rate=30)
    known = suppliers()

    def handle(number):
        summary(delivery(number), known).to_dict("index")

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
