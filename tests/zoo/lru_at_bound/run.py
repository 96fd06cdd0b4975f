"""A journey planner that caches routes between stations in an LRU cache.

Healthy: the cache is at its bound before the first request. A new route is evicted after some 8 s.
"""

import functools
import random

import harness

STATIONS = 1000
CACHED = 5_000
TRIPS = 3

chance = random.Random(11)


class Route:
    def __init__(self, stops, minutes):
        self.stops = stops
        self.minutes = minutes


def legs(origin, destination):
    """The candidates for each leg of a trip, of which all but the best are dropped."""
    for leg in range(1, 9):
        vias = range(leg, leg + 25)
        yield min((abs(origin * leg - destination * via) % 97 + 0.5, f"station {via}") for via in vias)


@functools.lru_cache(maxsize=CACHED)
def route(origin, destination):
    best = list(legs(origin, destination))
    return Route([stop for _, stop in best], sum(minutes for minutes, _ in best))


def random_trip():
    return chance.randrange(STATIONS), chance.randrange(STATIONS)


def replay_yesterday():
    while route.cache_info().currsize < CACHED:
        route(*random_trip())


def main():
    options = harness.arguments(__doc__, rate=200)
    commutes = [random_trip() for _ in range(20)]
    replay_yesterday()

    def handle(number):
        trips = [random_trip() for _ in range(TRIPS)] + [commutes[number % len(commutes)]]
        min((route(*trip) for trip in trips), key=lambda found: found.minutes)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
