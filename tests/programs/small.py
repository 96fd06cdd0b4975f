"""Small objects: about 2,000 allocations a request, of which 5 stay.

What stays: a session (the object and its attribute values), its list (head and body), its key.
"""
# domain: pymalloc
# kept by: __main__.sessions

import harness

sessions = {}


class Session:
    def __init__(self, history):
        self.history = history  # LEAK


def churn(number):
    """What most of a request is: numbers and texts that it drops."""
    counted = [number + n for n in range(1000, 2350)]
    named = [f"field {n}" for n in range(170)]
    table = {name: len(name) + number for name in named}
    rows = [[number, n] for n in range(100)]
    return len(counted) + len(table) + len(rows)


def remember(number):
    history = [None, None]  # LEAK
    key = f"session {number}"  # LEAK
    sessions[key] = Session(history)  # LEAK


def forget(number):
    history = [None, None]
    key = f"session {number}"
    sessions[key] = Session(history)
    del sessions[key]


def main():
    options = harness.arguments(__doc__)
    keep = forget if options.clean else remember

    def handle(number):
        churn(number)
        keep(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
