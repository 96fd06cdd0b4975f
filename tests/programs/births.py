"""Makes many processes that live shortly, in every way, and counts them; one of them replaces its program again
and again.

`--births` processes are made, as fast as it goes or spread over `--seconds`. Prints as JSON how many were made and
how they ended.
"""

import argparse
import json
import multiprocessing
import os
import select
import subprocess
import sys
import time


def short(number):
    """A child's life: some work, an end of its own."""
    data = [str(n) * 3 for n in range(2000)]
    os._exit(len(data) % 7 + number % 3)


def exec_again(times):
    """Replaces its program so many times, then ends with 9."""
    if times == 0:
        sys.exit(9)
    os.execv(sys.executable, [sys.executable, __file__, "--exec", str(times - 1)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--births", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--exec", type=int, help="be the one that replaces its program")
    options = parser.parse_args()
    if options.exec is not None:
        exec_again(options.exec)

    print("ready", flush=True)
    # It works until it is told to begin: who only waits is left alone.
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        [str(n) * 3 for n in range(2000)]
    sys.stdin.readline()
    replacing = subprocess.Popen([sys.executable, __file__, "--exec", "20"])
    ends = {}
    began = time.monotonic()
    for number in range(options.births):
        if number % 10 == 9:
            end = subprocess.run(["true"]).returncode
        elif number % 10 == 8:
            process = multiprocessing.get_context("fork").Process(target=short, args=(number,))
            process.start()
            process.join()
            end = process.exitcode
        else:
            pid = os.fork()
            if pid == 0:
                short(number)
            end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ends[end] = ends.get(end, 0) + 1
        due = began + options.seconds * (number + 1) / options.births
        time.sleep(max(0.0, due - time.monotonic()))
    replaced = replacing.wait()
    print(json.dumps({"made": options.births + 1, "ends": ends, "replaced": replaced}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
