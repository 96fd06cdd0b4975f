"""Runs a request handler as a service: the loop, its pace, its ready line, the times of its requests."""

import argparse
import array
import threading
import time

# So many requests, or this long, make a service warm.
WARM_UP = 500
LONGEST_WARM_UP = 5_000_000_000


def arguments(description, rate=0.0, **numbers):
    """The options that every program has, and those that are numbers of its own, with their defaults. `rate` is its
    default pace in requests a second.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clean", action="store_true", help="keep nothing")
    parser.add_argument("--rate", type=float, default=rate, help="requests a second; 0: back to back")
    parser.add_argument("--seconds", type=float, default=600.0, help="end after this long")
    parser.add_argument("--times", help="file for the requests' times, see Times")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=float, default=default, help="see above")
    return parser.parse_args()


class Times:
    """Writes four int64 a request, through a buffer that never grows: its begin and its length in ns, and how long
    two fixed pieces of work took right after it. Threads may add at the same time.

    They tell how fast the machine is at this moment. Neither allocates, so no probe slows them: the first is Python,
    and follows the machine's speed most closely; the second is compiled code, which no hook on calls or lines slows.
    """

    EACH = 4
    ROOM = EACH * 2048
    STEPS = range(256)
    NUMBERS = tuple(range(1000, 1400)) * 2
    # Nothing stays in the buffer for longer, in ns, once another request is added.
    OLDEST = 1_000_000_000

    def __init__(self, path):
        self.file = open(path, "wb", buffering=0) if path else None
        self.buffer = array.array("q", bytes(8 * self.ROOM))
        self.used = 0
        self.lock = threading.Lock()

    def add(self, begun, length):
        if self.file is None:
            return
        clock = time.perf_counter_ns
        started = clock()
        for _ in self.STEPS:
            pass
        for _ in self.STEPS:
            pass
        between = clock()
        self.NUMBERS.count(-1)
        ended = clock()
        with self.lock:
            self.buffer[self.used] = begun
            self.buffer[self.used + 1] = length
            self.buffer[self.used + 2] = between - started
            self.buffer[self.used + 3] = ended - between
            self.used += self.EACH
            if self.used == self.ROOM or begun - self.buffer[0] > self.OLDEST:
                self.flush()

    def flush(self):
        if self.file is not None:
            self.file.write(memoryview(self.buffer)[: self.used])
        self.used = 0


def sleep_until(due, clock):
    wait = due - clock()
    if wait > 0:
        time.sleep(wait / 1e9)


def serve(handle, options, threads=1):
    """Calls `handle(number)` at the asked pace until the time is over, in this thread or in so many others.

    Says `ready` once it is warm. Linux's `perf_counter` is CLOCK_MONOTONIC, so that another process
    can tell which requests fell into which period.
    """
    clock = time.perf_counter_ns
    times = Times(options.times)
    latest = clock() + LONGEST_WARM_UP
    for number in range(WARM_UP):
        handle(number)
        if clock() > latest:
            break
    print("ready", flush=True)

    period = int(threads * 1e9 / options.rate) if options.rate > 0 else 0
    start = clock()
    end = start + int(options.seconds * 1e9)

    def work(thread):
        number = WARM_UP + thread
        due = start + thread * period // threads
        sleep_until(due, clock)
        while due < end:
            begun = clock()
            handle(number)
            length = clock() - begun
            times.add(begun, length)
            number += threads
            if period:
                due += period
                sleep_until(due, clock)
            else:
                due = begun

    if threads == 1:
        work(0)
    else:
        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    times.flush()
