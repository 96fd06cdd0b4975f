"""A quote service that forks two workers before it serves: one of them caches each quote by its request.

Says `ready PID` where PID is the worker that leaks.
"""

import os

import harness

quotes = {}


class Quote:
    def __init__(self, premium, terms):
        self.premium = premium
        self.terms = terms


def assess(number):
    """The risks of a contract; returns the premium."""
    risks = [{"risk": f"risk {n}", "share": (number * 13 + n) % 101 / 9} for n in range(450)]
    worst = sorted(risks, key=lambda risk: risk["share"], reverse=True)[:50]
    return sum(risk["share"] for risk in worst)


def remember(number, premium):
    terms = f"{premium:.2f} a year, from the {number % 28}th on"  # LEAK
    quotes[f"request {number}"] = Quote(premium * 1.19, terms)  # LEAK


def serve(options, leaks, parent):
    """The life of a worker; it ends when its parent has gone."""

    def handle(number):
        if os.getppid() != parent:
            os._exit(1)
        premium = assess(number)
        remember(number, premium)
        if not leaks:
            quotes.clear()

    harness.serve(handle, options)


def fork_worker(options, leaks):
    """Returns the worker's id and a file of what it says."""
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        serve(options, leaks, parent)
        os._exit(0)
    os.close(writer)
    return pid, open(reader)


def main():
    options = harness.arguments(__doc__, rate=250)
    workers = [fork_worker(options, leaks) for leaks in (not options.clean, False)]
    for _, said in workers:
        said.readline()
    print("ready", workers[0][0], flush=True)
    for pid, _ in workers:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
