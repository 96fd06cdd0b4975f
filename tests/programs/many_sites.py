"""Many sites: 10,000 functions that allocate, some hundred of them in a request, and one that keeps what it makes.

They are generated, each on lines of its own; a request picks them at random, the same ones in every run.
"""
# domain: pymalloc
# kept by: __main__.kept

import random

import harness

FUNCTIONS = 10_000
IN_A_REQUEST = 300

kept = []


def functions():
    source = "".join(f"def f{n}(x):\n    return len([x, x + {n}.5])\n" for n in range(FUNCTIONS))
    names = {}
    exec(compile(source, "generated.py", "exec"), names)
    return [names[f"f{n}"] for n in range(FUNCTIONS)]


def remember(number):
    kept.append((number, [number]))  # LEAK


def main():
    options = harness.arguments(__doc__, rate=1000)
    choices = random.Random(1)
    every = functions()

    def handle(number):
        for function in choices.sample(every, IN_A_REQUEST):
            function(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
