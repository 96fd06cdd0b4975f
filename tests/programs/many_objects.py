"""A large heap: `--objects` objects in all, of a class, texts, tuples, lists, floats and ints. Then it waits.

Told `count`, it counts by type what its collector shows, as objgraph does, and prints how many seconds that took and how
many objects it saw.
"""

import argparse
import gc
import sys
import time


class Note:
    __slots__ = ("number", "text")

    def __init__(self, number):
        self.number = number
        self.text = f"note {number}"


def most_common_types():
    """objgraph's `typestats`, without its sorting: all that it does of its own."""
    stats = {}
    for one in gc.get_objects():
        name = type(one).__name__
        stats[name] = stats.get(name, 0) + 1
    return stats


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000_000)
    options = parser.parse_args()
    gc.disable()
    # Six a round: the note, its text and its number, a tuple, a float, a list.
    kept = [(Note(1000 + n), n / 7, [n]) for n in range(options.objects // 6)]
    gc.enable()
    print("ready", len(kept), flush=True)
    for line in sys.stdin:
        if line.strip() == "count":
            began = time.perf_counter()
            stats = most_common_types()
            print(time.perf_counter() - began, sum(stats.values()), flush=True)


if __name__ == "__main__":
    main()
