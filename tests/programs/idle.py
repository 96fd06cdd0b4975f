"""A service that mostly waits: ten tiny requests a second, each of which leaves a note."""
# domain: pymalloc
# kept by: __main__.notes

import harness

notes = []


class Note:
    def __init__(self, number):
        self.text = f"note {number}"  # LEAK


def answer(number):
    return ",".join(str(number + n) for n in range(100))


def remember(number):
    notes.append(Note(number))  # LEAK


def main():
    options = harness.arguments(__doc__, rate=10)

    def handle(number):
        answer(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
