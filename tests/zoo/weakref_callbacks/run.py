"""Plans deliveries. A plan is to be dropped once its depot closes, hence a finalizer at the depot."""

import logging
import weakref

import harness

log = logging.getLogger(__name__)


class Depot:
    """One of the few that exist for as long as the service."""

    def __init__(self, name):
        self.name = name


class Stop:
    __slots__ = ("address", "minutes")

    def __init__(self, address, minutes):
        self.address = address
        self.minutes = minutes


def stops(number):
    return [Stop(f"street {number % 53}, house {house}", house * number % 59) for house in range(500)]


def planned(number):
    """The stops in the order of the round."""
    return sorted(stops(number), key=lambda stop: stop.minutes)


def cancelled(reference, driver):
    log.debug("%s: %s stays at home", reference, driver)


def assign(number, depot):
    plan = planned(number)
    minutes = sum(stop.minutes for stop in plan)
    reference = f"round {number:07} of {depot.name}"  # LEAK
    driver = f"driver {minutes % 40} after {plan[0].address}"  # LEAK
    return weakref.finalize(depot, cancelled, reference, driver)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=250)
    depots = [Depot(f"depot {city}") for city in ("north", "south", "harbour")]

    def handle(number):
        cancellation = assign(number, depots[number % len(depots)])
        cancellation.atexit = False
        if options.clean:
            cancellation.detach()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
