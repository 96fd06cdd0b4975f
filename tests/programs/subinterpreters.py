"""Interpreters within the interpreter: each runs in a thread of the main one, and has a thread of its own.

Says `ready` and then, as JSON, the stack of each thread in each interpreter as that interpreter sees it. Ends
with its input.
"""

import json
import os
import sys
import threading
import time

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

COUNT = 2

# Isolated ones may have no threads in 3.9 to 3.11; later each has a GIL of its own.
OPTIONS = {"isolated": False} if (3, 9) <= sys.version_info < (3, 12) else {}

# Runs in every interpreter.
COMMON = '''
import json, os, sys, threading


def tell(pipe, interpreter):
    """Says the caller's stack."""
    frame, stack = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        stack.append({"function": name, "file": code.co_filename, "line": frame.f_lineno})
        frame = frame.f_back
    told = {"interpreter": interpreter, "tid": threading.get_native_id(), "stack": stack}
    os.write(pipe, json.dumps(told).encode() + b"\\n")
'''

INSIDE = COMMON + '''

class Worker:
    def work(self, depth):
        if depth:
            return self.work(depth - 1)
        # On one line, so that what is told of this frame stays true.
        return tell(PIPE, INTERPRETER), os.read(FOREVER, 1)


def start():
    threading.Thread(target=Worker().work, args=(5,)).start()
    return tell(PIPE, INTERPRETER), os.read(FOREVER, 1)


start()
'''

exec(COMMON)


def run(pipe, forever):
    # Here, since before 3.12 an interpreter takes itself to run in the thread that made it.
    interpreter = interpreters.create(**OPTIONS)
    values = f"PIPE, FOREVER, INTERPRETER = {pipe}, {forever}, {int(interpreter)}\n"
    # As above.
    return tell(pipe, 0), interpreters.run_string(interpreter, values + INSIDE)


def reads(tid, descriptor):
    """Is the thread in the system call `read` (0) of this descriptor?"""
    with open(f"/proc/self/task/{tid}/syscall") as file:
        return file.read().split()[:2] == ["0", hex(descriptor)]


def main():
    said, pipe = os.pipe()
    forever, _ = os.pipe()
    for _ in range(COUNT):
        threading.Thread(target=run, args=(pipe, forever), daemon=True).start()
    with os.fdopen(said) as said:
        threads = [json.loads(said.readline()) for _ in range(3 * COUNT)]
        # They have told it, and come back from telling it.
        while not all(reads(thread["tid"], forever) for thread in threads):
            time.sleep(0.001)
        print("ready", json.dumps({"threads": threads}), flush=True)
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
