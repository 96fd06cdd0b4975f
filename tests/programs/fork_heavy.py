"""A child for each request, forked, that computes a little and ends, while its parent works, too, and keeps a job."""
# domain: pymalloc
# kept by: __main__.jobs

import os

import harness

jobs = {}


class Job:
    def __init__(self, child):
        self.child = child  # LEAK
        self.results = [None, None]  # LEAK


def compute(number):
    table = {f"field {n}": [n, number] for n in range(300)}
    return sum(len(name) + row[0] for name, row in table.items())


def fork(number):
    """A short-lived child; its parent comes back with its id."""
    child = os.fork()  # LEAK
    if child == 0:
        os._exit(compute(number) & 127)
    return child


def remember(number, child):
    jobs[f"job {number}"] = Job(child)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=60)

    def handle(number):
        child = fork(number)
        for part in range(40):
            compute(number + part)
        os.waitpid(child, 0)
        if not options.clean:
            remember(number, child)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
