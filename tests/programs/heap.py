"""Objects of many kinds, in known numbers; goes on making and dropping others until its standard input ends.

Says `ready` and what it keeps, as JSON: how many of each type.
"""

import collections
import json
import select
import sys


class Note:
    def __init__(self, number):
        self.text = f"note {number}"


class Slim:
    __slots__ = ("left", "right")


class Wide:
    """More than pymalloc's largest block."""

    __slots__ = tuple(f"field{n}" for n in range(100))


class Text(str):
    pass


class Blob(bytes):
    """Larger than pymalloc's blocks, and nothing that the collector tracks."""

    __slots__ = ()


class Big(int):
    __slots__ = ()


class Outer:
    class Inner:
        pass


def main():
    local = type("Local", (), {})
    kept = [
        [Note(number) for number in range(5000)],
        [Slim() for _ in range(3000)],
        [Wide() for _ in range(700)],
        [Text(f"text {number}") for number in range(2000)],
        [Outer.Inner() for _ in range(400)],
        [local() for _ in range(300)],
        [collections.OrderedDict(a=number) for number in range(200)],
        collections.deque(Blob(bytes([65 + number % 26]) * 1000) for number in range(600)),
        [Big(1 << 8000 + number) for number in range(150)],
    ]
    counts = {}
    for one in kept:
        kind = type(one[0])
        counts[f"{kind.__module__}.{kind.__qualname__}"] = len(one)
    print("ready", json.dumps(counts), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        # What comes and goes while it is read: of the kept types too, but never more of them at once than these few.
        [Note(number) for number in range(3)]
        [[number] for number in range(2000)]
        {number: str(number) for number in range(500)}


if __name__ == "__main__":
    main()
