"""A report service that computes the parts of a report in a pool of threads.

Healthy: a future goes once its result is read, and each of the THREADS threads keeps no more than RECENT
lines of its own.
"""

import collections
import concurrent.futures
import threading

import harness

THREADS = 4
PARTS = 6
RECENT = 300

own = threading.local()


def recent_lines():
    if not hasattr(own, "recent"):
        own.recent = collections.deque(maxlen=RECENT)
    return own.recent


def part(number, index):
    """One part of a report: figures of which a line remains."""
    figures = {f"figure {n}": (number + n) % 89 / 3.0 for n in range(index * 20, index * 20 + 200)}
    best = max(figures, key=figures.get)
    line = f"report {number}, part {index}: {best} is {figures[best]:.3f}"
    recent_lines().append(line)
    return line


def report(number, pool):
    futures = [pool.submit(part, number, index) for index in range(PARTS)]
    lines = [future.result() for future in concurrent.futures.as_completed(futures)]
    return "\n".join(sorted(lines))


def main():
    options = harness.arguments(__doc__, rate=120)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        harness.serve(lambda number: report(number, pool), options)


if __name__ == "__main__":
    main()
