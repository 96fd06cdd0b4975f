"""Serves requests for programs on a real GPU, and tells of what they hold when it is asked.

Every line on standard input is answered by one of JSON: how many requests there were, and the program's own figures.
After `pause` nothing is done until the next line; the end of the input is the end.
"""

import json
import select
import sys
import time


def serve(handle, figures, rate):
    """Calls `handle(number)` at a pace of so many a second, 0: back to back."""
    for number in range(20):
        handle(number)
    print("ready", flush=True)
    number, due = 20, time.monotonic()
    while True:
        wait = max(due - time.monotonic(), 0.0) if rate else 0.0
        if select.select([sys.stdin], [], [], wait)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            print(json.dumps({"requests": number, "time": time.monotonic(), **figures()}), flush=True)
            if line.strip() == "pause":
                select.select([sys.stdin], [], [])
        else:
            handle(number)
            number += 1
            due = max(due + 1.0 / rate, time.monotonic() - 1.0) if rate else 0.0


def loaded(name):
    """The path of a library that this process has loaded."""
    with open("/proc/self/maps") as maps:
        return next(line.split()[-1] for line in maps if name in line)


def torch_figures(torch):
    """What torch says of its allocator on the first device."""
    torch.cuda.synchronize()
    return {"allocated": torch.cuda.memory_allocated(0), "reserved": torch.cuda.memory_reserved(0)}
