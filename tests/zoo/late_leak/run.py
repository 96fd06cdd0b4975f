"""Sells tickets. Half a minute after the start a feature comes in: seats are held for who looks at them."""

import itertools
import time

import harness

ROWS = 25
SEATS = 30
HOLD = 5000

held = {}


class Feature:
    """Switched on some time after the first request of a warm service."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.begin = float("inf")

    def warm(self):
        self.begin = time.monotonic() + self.seconds

    def on(self):
        return time.monotonic() >= self.begin


class Hold:
    __slots__ = ("until", "visitor")

    def __init__(self, visitor, until):
        self.visitor = visitor
        self.until = until


def plan(number):
    """The hall, with the price of each seat."""
    places = itertools.product(range(ROWS), range(SEATS))
    return [(f"{row}/{seat}", (row * seat + number) % 80 + 20.5) for row, seat in places]


def cheapest(seats):
    return sorted(seats, key=lambda seat: seat[1])[:3]


def hold(number, seats):
    visitor = f"visitor {number:08}"  # LEAK
    for name, _ in seats:
        seat = f"performance {number // 100}, seat {name}, request {number}"  # LEAK
        held[seat] = Hold(visitor, number + HOLD)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=215)
    holding = Feature(seconds=30)

    def handle(number):
        if number == harness.WARM_UP:
            holding.warm()
        seats = cheapest(plan(number))
        if holding.on():
            hold(number, seats)
            if options.clean:
                held.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
