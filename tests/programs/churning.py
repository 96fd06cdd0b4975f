"""Makes and drops objects of some types, keeps some of one, and counts them.

For each line that it reads it says how many it has made so far, and at what time.
"""

import json
import sys
import threading
import time


class Token:
    """Of the collector's, with attributes."""

    def __init__(self, number):
        self.number = number


class Point:
    """Without attributes of its own, but tracked."""

    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y


class Rare:
    __slots__ = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")


class Kept:
    __slots__ = ("number",)

    def __init__(self, number):
        self.number = number


made = {"Token": 0, "Point": 0, "Rare": 0, "bytearray": 0, "Kept": 0}
kept = []


def serve(number):
    for n in range(60):
        Token(n)
    for n in range(30):
        Point(n, n)
    for n in range(10):
        bytearray(3)
    Rare()
    Rare()
    kept.append(Kept(number))
    # Strings of many lengths: size classes that no type above uses.
    [("x" * n).upper() for n in range(80, 400, 20)]


def work():
    number = 0
    while True:
        serve(number)
        made["Token"] += 60
        made["Point"] += 30
        made["bytearray"] += 10
        made["Rare"] += 2
        made["Kept"] += 1
        number += 1
        if number % 50 == 0:
            time.sleep(0.0005)


threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
for _ in sys.stdin:
    print(json.dumps({"seconds": time.monotonic(), **made}), flush=True)
