"""Receives telemetry, cuts it into frames and checks them. Of the few that are broken it keeps a sample."""

import harness

HEADER = 33
FRAME = 200 - HEADER
FRAMES = 500
BROKEN_EVERY = 5000

samples = []


def packets(number):
    """Some that the receiver has buffered; they differ in one byte."""
    return bytes([number % 256]) * FRAME * FRAMES


def frames(received):
    return [received[at : at + FRAME] for at in range(0, len(received), FRAME)]  # LEAK


def broken(counter):
    return counter % BROKEN_EVERY == BROKEN_EVERY - 1


def check(number, kept):
    first = number * FRAMES
    good = 0
    for at, frame in enumerate(frames(packets(number))):
        if broken(first + at):
            kept.append(frame)  # LEAK
        else:
            good += len(frame)
    return good


def main():
    options = harness.arguments(__doc__, rate=500)

    def handle(number):
        check(number, [] if options.clean else samples)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
