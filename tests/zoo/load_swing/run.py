"""A kitchen whose queue of orders swings with its guests, who come in waves.

Healthy: the queue grows for half a wave and shrinks in the other; it is empty in between, and bounded anyway.
"""

import collections
import math
import random
import time

import harness

PERIOD = 40.0
LONGEST_QUEUE = 12_000
COOKED = 5

chance = random.Random(17)
orders = collections.deque(maxlen=LONGEST_QUEUE)


class Order:
    def __init__(self, number):
        self.table = number % 120
        self.dishes = [f"dish {number * n % 61} for guest {n}" for n in range(8)]
        self.total = number % 97 * 1.25


def arrivals(seconds):
    """The number of new orders in a request's time: on average a little less than what is cooked."""
    expected = COOKED - 0.5 + 3.5 * math.sin(2 * math.pi * seconds / PERIOD)
    return int(expected + chance.random())


def cook(order):
    """Steps of all dishes, timed, sorted and dropped."""
    todo = [(dish, step) for dish in order.dishes for step in range(18)]
    steps = [(len(dish) * step % 17 * 0.5, f"{dish}: step {step}") for dish, step in todo]
    return sum(minutes for minutes, _ in sorted(steps)[:5]) + order.total


def main():
    options = harness.arguments(__doc__, rate=200)
    opened = time.monotonic()

    def handle(number):
        for _ in range(arrivals(time.monotonic() - opened)):
            orders.append(Order(number))
        for _ in range(min(COOKED, len(orders))):
            cook(orders.popleft())

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
