"""A service whose work changes: it idles, churns, leaks, and forks, in turns.

Each lasts `--phase` seconds of the monotonic clock, so that whoever knows the clock knows the phase.
"""
# domain: pymalloc

import os
import time

import harness
import small

kept = {}


class Note:
    def __init__(self):
        self.words = [None, None]  # LEAK


def keep(number):
    kept[f"note {number}"] = Note()  # LEAK


def idle(number):
    pass


def churn(number):
    small.churn(number)


def leak(number):
    small.churn(number)
    keep(number)


def fork(number):
    child = os.fork()
    if child == 0:
        os._exit(0)
    small.churn(number)
    os.waitpid(child, 0)


def main():
    options = harness.arguments(__doc__, rate=200, phase=10)
    phases = [idle, churn, churn if options.clean else leak, fork]

    def handle(number):
        phases[int(time.monotonic() / options.phase) % len(phases)](number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
