"""What a tool within a process says grows there: runs a program in this process, with the tool.

    python growth.py TOOL SECONDS RUN.PY [ARGUMENT ...]

Prints a JSON list when the time is over and ends: what grew from a second after the program said that it is ready, that
of most growth first. Lines have a `stack`, innermost frame first; types a `type`.
"""

import json
import os
import runpy
import sys
import tempfile
import threading
import time

FRAMES = 25
MOST = 20


def frame(file, line):
    return {"kind": "python", "file": file, "line": line}


class Tracemalloc:
    """Two snapshots compared, as its documentation has it. It sees what was allocated before too."""

    def __init__(self):
        import tracemalloc

        tracemalloc.start(FRAMES)
        self.take_snapshot = tracemalloc.take_snapshot

    def begin(self):
        self.before = self.take_snapshot()

    def grown(self):
        for one in self.take_snapshot().compare_to(self.before, "traceback"):
            if one.size_diff > 0:
                yield {"stack": [frame(at.filename, at.lineno) for at in reversed(one.traceback)]}


class Memray:
    """What was allocated since it was attached and is still there, as `memray attach` and `memray flamegraph --leaks` say."""

    def __init__(self):
        import memray

        self.memray = memray
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.folder.name, "allocations.bin")

    def begin(self):
        self.tracker = self.memray.Tracker(self.file, trace_python_allocators=True)
        self.tracker.__enter__()

    def grown(self):
        self.tracker.__exit__(None, None, None)
        left = self.memray.FileReader(self.file).get_leaked_allocation_records(merge_threads=True)
        for record in sorted(left, key=lambda record: record.size, reverse=True):
            yield {"stack": [frame(file, line) for _, file, line in record.stack_trace(FRAMES)]}
        self.folder.cleanup()


class Objgraph:
    """Types whose objects became more: it knows no lines."""

    def __init__(self):
        import objgraph

        self.growth = objgraph.growth
        self.peaks = {}

    def begin(self):
        self.growth(limit=MOST, peak_stats=self.peaks, shortnames=False)

    def grown(self):
        for name, _, _ in self.growth(limit=MOST, peak_stats=self.peaks, shortnames=False):
            yield {"type": name}


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


def observe(tool, ready, seconds):
    ready.said.wait()
    time.sleep(1.0)
    tool.begin()
    time.sleep(seconds)
    grown = [one for one, _ in zip(tool.grown(), range(MOST))]
    print(json.dumps(grown), flush=True)
    os._exit(0)


def main():
    tool = {"tracemalloc": Tracemalloc, "memray": Memray, "objgraph": Objgraph}[sys.argv[1]]()
    seconds, program = float(sys.argv[2]), sys.argv[3]
    sys.argv = sys.argv[3:]
    sys.stdout = ready = Ready(sys.stdout)
    threading.Thread(target=observe, args=(tool, ready, seconds), daemon=True).start()
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
