"""A process with children, of which one leaks as small.py does; the others do the same work and keep nothing.

Says `ready PID` where PID is the one that leaks. `--how` is how it was made.
"""

import argparse
import multiprocessing
import os
import sys
import time

import small


# Whoever is started from here knows the first process.
ROOT = int(os.environ.setdefault("WORKERS_ROOT", str(os.getpid())))


def root_lives():
    """A test that ends kills the first process alone."""
    try:
        os.kill(ROOT, 0)
    except ProcessLookupError:
        return False
    return True


def work(keep, seconds):
    """Requests at an easy pace, since several processes share the machine."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and root_lives():
        small.churn(number)
        keep(number)
        number += 1
        time.sleep(0.001)


def worker(leaks, seconds):
    # Not the parent's: it would wait for a reader that has gone.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work(small.remember if leaks else small.forget, seconds)


def parent_of_one(pipe, seconds):
    """A child that keeps nothing and has a child that leaks."""
    child = multiprocessing.get_context("fork").Process(target=worker, args=(True, seconds))
    child.start()
    pipe.send(child.pid)
    worker(False, seconds)
    child.join()


def forked(leaks, seconds):
    """By the bare system call."""
    pid = os.fork()
    if pid == 0:
        worker(leaks, seconds)
        os._exit(0)
    return pid


def start(how, leaks, seconds):
    """Starts a worker and returns the id of the process that leaks if any does."""
    if how == "os.fork":
        return forked(leaks, seconds)
    if how == "grandchild":
        receive, send = multiprocessing.Pipe(duplex=False)
        multiprocessing.get_context("fork").Process(target=parent_of_one, args=(send, seconds)).start()
        return receive.recv()
    process = multiprocessing.get_context(how).Process(target=worker, args=(leaks, seconds))
    process.start()
    return process.pid


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", default="fork")
    parser.add_argument("--seconds", type=float, default=120.0, help="the leaking one ends after this long")
    parser.add_argument("--clean", action="store_true", help="keep nothing")
    parser.add_argument("--workers", type=int, default=0, help="so many that leak, all alike")
    options = parser.parse_args()

    if options.workers:
        for _ in range(options.workers):
            start(options.how, True, options.seconds)
        print("ready", flush=True)
        time.sleep(options.seconds)
        return
    # With everything that is forked from here the leaking one shares what the parent had.
    pid = start(options.how, not options.clean, options.seconds)
    other = "fork" if options.how == "grandchild" else options.how
    start(other, False, 120.0)
    print("ready", pid, flush=True)
    work(small.forget, 120.0)


if __name__ == "__main__":
    sys.exit(main())
