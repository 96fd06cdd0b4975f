"""The computation of result_check.py in children made in every way, and in this process.

Works until a byte comes on its standard input, or for `--rounds` in the order of the processes; then prints as
JSON the rounds of each, a digest of all that each computed, and how each ended.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import select
import subprocess
import sys

from result_check import compute


def rounds(asked, stop):
    """Computes until the pipe `stop` has something to read, or for so many rounds."""
    digest, kept, number = hashlib.sha256(), {}, 0
    parent = os.getppid()
    while number < asked or not asked:
        if os.getppid() != parent:
            # A test that ends kills the root alone.
            os._exit(1)
        if not asked and select.select([stop], [], [], 0)[0]:
            break
        digest.update(compute(number, kept))
        number += 1
    return [number, digest.hexdigest()]


def child(asked, stop, answer):
    answer.send(rounds(asked, stop))
    answer.close()


def result(receive, tell_stop):
    """What a child says when it is told to stop; one that was told its rounds may have ended."""
    try:
        tell_stop.send("stop")
    except BrokenPipeError:
        pass
    try:
        return receive.recv()
    except EOFError:
        return [0, "ended without a result"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", default="0,0,0,0")
    options = parser.parse_args()
    asked = [int(number) for number in options.rounds.split(",")]

    children = []
    for how, number in zip(["fork", "spawn", "forkserver"], asked[1:]):
        context = multiprocessing.get_context(how)
        stop, tell_stop = context.Pipe(duplex=False)
        receive, answer = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(number, stop, answer))
        process.start()
        answer.close()
        children.append((process, receive, tell_stop))
    print("ready", *(process.pid for process, _, _ in children), flush=True)

    results = [rounds(asked[0], sys.stdin)]
    results += [result(receive, tell_stop) for _, receive, tell_stop in children]
    for process, _, _ in children:
        process.join()
    ends = [process.exitcode for process, _, _ in children]
    # What it starts and what that says must be as ever, too.
    said = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
    ends += [said.returncode, said.stdout, os.system("exit 3")]
    facts = {"rounds": [number for number, _ in results], "digests": [d for _, d in results], "ends": ends}
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
