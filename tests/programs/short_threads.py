"""Threads that are born and end all the time, 1,200 a second, each of which allocates and leaves a note.

Says so on standard output each time that a thousand have ended.
"""
# domain: pymalloc

import threading

import harness

THREADS = 4
SAY_EVERY = 1000

kept = []


class Note:
    def __init__(self, number):
        self.stale = False
        self.text = "note %d" % number  # LEAK


def churn(number):
    return sum(len(str(number + n)) for n in range(200))


def remember(number):
    kept.append(Note(number))  # LEAK


def work(number, clean):
    churn(number)
    if not clean:
        remember(number)


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        threads = [threading.Thread(target=work, args=(number, options.clean)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = THREADS * (number + 1)
        if number > harness.WARM_UP and ended % SAY_EVERY == 0:
            print("ended", ended, flush=True)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
