"""A process with children, of which one leaks as small.py does; the others do the same work and keep nothing.

Says `ready PID` where PID is the one that leaks. `--how` is how it was made. With `--texts` what it leaks is a
long text a request, so that whatever stays is an object and has a type (the body of a list has none).
"""
# domain: pymalloc
# kept by: __main__.texts

import argparse
import multiprocessing
import os
import sys
import time

import small


# Whoever is started from here knows the first process.
ROOT = int(os.environ.setdefault("WORKERS_ROOT", str(os.getpid())))

texts = []


def root_lives():
    """A test that ends kills the first process alone."""
    try:
        os.kill(ROOT, 0)
    except ProcessLookupError:
        return False
    return True


def remember_text(number):
    texts.append(f"session {number:>200}")  # LEAK


def work(keep, seconds):
    """Requests at an easy pace, since several processes share the machine."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and root_lives():
        small.churn(number)
        keep(number)
        number += 1
        time.sleep(0.001)


def worker(keep, seconds):
    # Not the parent's: it would wait for a reader that has gone.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work(keep, seconds)


def parent_of_one(pipe, seconds):
    """A child that keeps nothing and has a child that leaks."""
    child = multiprocessing.get_context("fork").Process(target=worker, args=(small.remember, seconds))
    child.start()
    pipe.send(child.pid)
    worker(small.forget, seconds)
    child.join()


def forked(keep, seconds):
    """By the bare system call."""
    pid = os.fork()
    if pid == 0:
        worker(keep, seconds)
        os._exit(0)
    return pid


def start(how, keep, seconds):
    """Starts a worker and returns the id of the process that leaks if `keep` does."""
    if how == "os.fork":
        return forked(keep, seconds)
    if how == "grandchild":
        receive, send = multiprocessing.Pipe(duplex=False)
        multiprocessing.get_context("fork").Process(target=parent_of_one, args=(send, seconds)).start()
        return receive.recv()
    process = multiprocessing.get_context(how).Process(target=worker, args=(keep, seconds))
    process.start()
    return process.pid


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", default="fork")
    parser.add_argument("--seconds", type=float, default=120.0, help="the leaking one ends after this long")
    parser.add_argument("--clean", action="store_true", help="keep nothing")
    parser.add_argument("--texts", action="store_true", help="leak texts alone")
    parser.add_argument("--workers", type=int, default=0, help="so many that leak, all alike")
    options = parser.parse_args()

    keep = remember_text if options.texts else small.remember
    if options.workers:
        for _ in range(options.workers):
            start(options.how, keep, options.seconds)
        print("ready", flush=True)
        time.sleep(options.seconds)
        return
    # With everything that is forked from here the leaking one shares what the parent had.
    pid = start(options.how, small.forget if options.clean else keep, options.seconds)
    other = "fork" if options.how == "grandchild" else options.how
    start(other, small.forget, 120.0)
    print("ready", pid, flush=True)
    work(small.forget, 120.0)


if __name__ == "__main__":
    sys.exit(main())
