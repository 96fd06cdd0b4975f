"""Runs a request handler as a service: the loop, its pace, its ready line, the times of its requests."""

import argparse
import array
import time

WARM_UP = 500


def arguments(description, rate=0.0):
    """The options that every program has. `rate` is its default pace in requests a second."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clean", action="store_true", help="keep nothing")
    parser.add_argument("--rate", type=float, default=rate, help="requests a second; 0: back to back")
    parser.add_argument("--seconds", type=float, default=600.0, help="end after this long")
    parser.add_argument("--times", help="file for the requests' times, see Times")
    return parser.parse_args()


class Times:
    """Writes three int64 a request, through a buffer that never grows: its begin and its length in ns, and
    how long a fixed piece of Python took right after it.

    That piece allocates nothing, so no probe slows it: it tells how fast the machine is at this moment.
    """

    ROOM = 3 * 2048
    STEPS = range(256)

    def __init__(self, path):
        self.file = open(path, "wb", buffering=0) if path else None
        self.buffer = array.array("q", bytes(8 * self.ROOM))
        self.used = 0

    def add(self, begun, length):
        if self.file is None:
            return
        clock = time.perf_counter_ns
        started = clock()
        for _ in self.STEPS:
            pass
        for _ in self.STEPS:
            pass
        self.buffer[self.used] = begun
        self.buffer[self.used + 1] = length
        self.buffer[self.used + 2] = clock() - started
        self.used += 3
        if self.used == self.ROOM:
            self.flush()

    def flush(self):
        if self.file is not None:
            self.file.write(memoryview(self.buffer)[: self.used])
        self.used = 0


def sleep_until(due, clock):
    wait = due - clock()
    if wait > 0:
        time.sleep(wait / 1e9)


def serve(handle, options):
    """Calls `handle(number)` at the asked pace until the time is over.

    Says `ready` once it is warm. Linux's `perf_counter` is CLOCK_MONOTONIC, so that another process
    can tell which requests fell into which period.
    """
    clock = time.perf_counter_ns
    times = Times(options.times)
    for number in range(WARM_UP):
        handle(number)
    print("ready", flush=True)

    period = int(1e9 / options.rate) if options.rate > 0 else 0
    number = WARM_UP
    due = clock()
    end = due + int(options.seconds * 1e9)
    while due < end:
        begun = clock()
        handle(number)
        length = clock() - begun
        times.add(begun, length)
        number += 1
        if period:
            due += period
            sleep_until(due, clock)
        else:
            due = begun
    times.flush()
