"""Batches of orders through pandas: merged with their customers, grouped, pivoted. One column of each stays."""
# domain: malloc
# kept by: __main__.prices

import harness
import numpy
import pandas

ROWS = 1000
CUSTOMERS = 300
REGIONS = ["north", "east", "south", "west"]

prices = []


def customers():
    number = numpy.arange(CUSTOMERS)
    regions = pandas.Categorical.from_codes(number % len(REGIONS), REGIONS)
    return pandas.DataFrame({"customer": number, "region": regions, "discount": (number % 7) / 50.0})


def orders(number):
    row = numpy.arange(number, number + ROWS)
    columns = {"customer": row * 31 % CUSTOMERS, "day": row % 5, "price": row % 997 / 10.0, "count": row % 9}
    return pandas.DataFrame(columns)


def batch(number, known):
    """The revenue by region and day of one batch."""
    merged = orders(number).merge(known, on="customer")
    merged["revenue"] = merged["price"] * merged["count"] * (1.0 - merged["discount"])
    sums = merged[merged["count"] > 0].groupby(["region", "day"], observed=True)["revenue"].sum()
    return merged, sums.unstack()


def remember(merged):
    prices.append(merged["price"].to_numpy().copy())  # LEAK


def main():
    options = harness.arguments(__doc__, rate=60)
    known = customers()

    def handle(number):
        merged, _ = batch(number, known)
        if not options.clean:
            remember(merged)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
