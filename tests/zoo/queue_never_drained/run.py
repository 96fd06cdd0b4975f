"""A ride dispatcher that queues metrics for a publisher, which died at start of a malformed setting."""

import asyncio
import time

import harness

events = asyncio.Queue()
totals = {}


class Event:
    __slots__ = ("name", "milliseconds", "tags")

    def __init__(self, name, milliseconds, tags):
        self.name = name
        self.milliseconds = milliseconds
        self.tags = tags


def dispatch(number):
    """Ranks the drivers around a passenger and returns the nearest one's distance."""
    drivers = [{"name": f"driver {n}", "away": (number * 31 + n * 17) % 997 / 8} for n in range(210)]
    nearest = sorted(drivers, key=lambda driver: driver["away"])
    return nearest[0]["away"]


def measure(number, distance):
    tags = {"zone": f"zone {number % 300}", "tariff": "night" if number % 3 else "day"}  # LEAK
    events.put_nowait(Event("rides.dispatch", distance * 1.5, tags))  # LEAK


async def publish(address):
    """Sums the events up for the statistics server."""
    host, port = address.split(":")
    while True:
        event = await events.get()
        series = (host, port, event.name, event.tags["zone"])
        totals[series] = totals.get(series, 0.0) + event.milliseconds


async def requests(options):
    """Numbers the requests, at the asked pace once the service is warm."""
    for number in range(harness.WARM_UP):
        yield number
    print("ready", flush=True)
    clock, times = time.perf_counter_ns, harness.Times(options.times)
    period = int(1e9 / options.rate) if options.rate > 0 else 0
    due = clock()
    end = due + int(options.seconds * 1e9)
    while due < end:
        await asyncio.sleep(max(0, due - clock()) / 1e9)
        number += 1
        begun = clock()
        yield number
        times.add(begun, clock() - begun)
        due = due + period if period else clock()
    times.flush()


async def main(options):
    publisher = asyncio.create_task(publish("statsd:8125" if options.clean else "statsd"))
    async for number in requests(options):
        measure(number, dispatch(number))
        await asyncio.sleep(0)
    publisher.cancel()


if __name__ == "__main__":
    asyncio.run(main(harness.arguments(__doc__, rate=400)))
