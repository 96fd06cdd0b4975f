"""Threads that never rest: what calls what can be read in every line that calls.

Says `ready` once all run. Each line that calls a function of this file names it, and only it, with its
bracket; so every stack that a thread can have can be told from one that it can't.
"""

import sys
import threading

THREADS = 3


def leaf(number):
    return number * 2 + 1


def left(number):
    total = leaf(number)
    if number:
        total += right(number - 1)
    total += leaf(number)
    return total


def right(number):
    total = leaf(number)
    if number % 3:
        total += left(number - 1)
    for tick in ticks(number % 5):
        total += tick
    total += leaf(number)
    return total


def ticks(number):
    while number:
        yield number
        yield leaf(number)
        number -= 1


def deep(number):
    if number:
        return deep(number - 1)
    return left(7)


def work(started):
    started.release()
    number = 0
    while True:
        left(number % 20)
        deep(number % 60)
        number += 1


def main():
    started = threading.Semaphore(0)
    for _ in range(THREADS):
        threading.Thread(target=work, args=(started,), daemon=True).start()
    for _ in range(THREADS):
        started.acquire()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
