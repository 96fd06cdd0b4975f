"""A route planner with two processes that multiprocessing spawns: one keeps each trip that it has planned.

Says `ready PID` where PID is the process that leaks.
"""

import multiprocessing
import os

import harness

trips = {}


class Trip:
    def __init__(self, stops, hours):
        self.stops = stops
        self.hours = hours


def plan(number):
    """Possible legs of a trip; returns the hours that the shortest take."""
    legs = [{"to": f"stop {n}", "hours": (number * 7 + n * 3) % 89 / 11} for n in range(600)]
    legs.sort(key=lambda leg: leg["hours"])
    return sum(leg["hours"] for leg in legs[:8])


def remember(number, hours):
    stops = [f"stop {number % 977}", f"stop {number % 983}"]  # LEAK
    trips[f"trip {number}"] = Trip(stops, hours + 0.25)  # LEAK


def serve(options, leaks, writer):
    """The life of a worker; it ends when its parent has gone."""
    parent = os.getppid()
    os.dup2(writer.fileno(), 1)

    def handle(number):
        if os.getppid() != parent:
            os._exit(1)
        hours = plan(number)
        remember(number, hours)
        if not leaks:
            trips.clear()

    harness.serve(handle, options)


def spawn_worker(options, leaks):
    """Returns the worker and a file of what it says."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    worker = context.Process(target=serve, args=(options, leaks, writer))
    worker.start()
    writer.close()
    return worker, open(reader.fileno(), closefd=False), reader


def main():
    options = harness.arguments(__doc__, rate=200)
    workers = [spawn_worker(options, leaks) for leaks in (not options.clean, False)]
    for _, said, _ in workers:
        said.readline()
    print("ready", workers[0][0].pid, flush=True)
    for worker, _, _ in workers:
        worker.join()


if __name__ == "__main__":
    main()
