"""What tracemalloc says grows in a program: runs it in this process and compares two snapshots.

    python tracemalloc_growth.py SECONDS RUN.PY [ARGUMENT ...]

Prints a JSON object when the time is over and ends: `grown` are the lines by growth, each with its traceback, innermost
frame first; `total` is all growth in bytes.
"""

import json
import os
import runpy
import sys
import threading
import time
import tracemalloc

FRAMES = 25
LINES = 20


class Ready:
    """Standard output, which knows when the program has said that it is ready."""

    def __init__(self, stream):
        self.stream = stream
        self.said = threading.Event()

    def write(self, text):
        if text.startswith("ready"):
            self.said.set()
        return self.stream.write(text)

    def flush(self):
        self.stream.flush()


def compare(ready, seconds):
    ready.said.wait()
    time.sleep(1.0)
    before = tracemalloc.take_snapshot()
    time.sleep(seconds)
    grown = tracemalloc.take_snapshot().compare_to(before, "traceback")
    lines = [
        {
            "size": one.size_diff,
            "count": one.count_diff,
            "stack": [
                {"kind": "python", "file": frame.filename, "line": frame.lineno}
                for frame in reversed(one.traceback)
            ],
        }
        for one in grown[:LINES]
        if one.size_diff > 0
    ]
    total = sum(one.size_diff for one in grown)
    print(json.dumps({"grown": lines, "total": total}), flush=True)
    os._exit(0)


def main():
    seconds, program = float(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.stdout = ready = Ready(sys.stdout)
    tracemalloc.start(FRAMES)
    threading.Thread(target=compare, args=(ready, seconds), daemon=True).start()
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
