"""A price list that a parent loads and a forked worker rates, row by row, round after round.

Healthy: reading a row writes its reference counts, so the worker gets its own copy of each page. In the first
round, of less than 30 s, its private memory grows by the size of the table, and then no more.
"""

import gc
import os

import harness

ROWS = 110_000
ROWS_A_REQUEST = 22
FACTORS = [0.8 + step / 150 for step in range(75)]


def load():
    return [(f"article {row} of the list", row * 0.11 + 0.5, f"shelf {row % 977}") for row in range(ROWS)]


def rated(rows):
    """Offers for some rows, all of which are dropped."""
    offers = [(price * factor, f"{name}, {shelf}") for name, price, shelf in rows for factor in FACTORS]
    return sorted(offers)[0]


def work(prices, parent, options):
    def handle(number):
        if os.getppid() != parent:
            os._exit(0)
        start = number * ROWS_A_REQUEST % ROWS
        rated(prices[start : start + ROWS_A_REQUEST])

    harness.serve(handle, options)


def main():
    options = harness.arguments(__doc__, rate=200)
    prices = load()
    # Or the worker's first full collection would touch, and copy, them all.
    gc.freeze()
    parent = os.getpid()
    receive, send = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.dup2(send, 1)
        work(prices, parent, options)
        return
    os.close(send)
    with open(receive) as said:
        said.readline()
        print("ready", worker, flush=True)
        os.waitpid(worker, 0)


if __name__ == "__main__":
    main()
