"""Prints shipping labels and logs each request under a name of its own, to tell their lines apart."""

import io
import logging
import os

import harness

PARCELS = 20
LAYOUT = logging.Formatter("%(name)s %(levelname)s %(message)s")


def opened(number, sink):
    logger = logging.getLogger(f"request {number}")  # LEAK
    handler = logging.StreamHandler(sink)  # LEAK
    handler.setFormatter(LAYOUT)
    logger.addHandler(handler)  # LEAK
    return logger


def closed(logger):
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    del logging.Logger.manager.loggerDict[logger.name]


def label(number, parcel):
    """A label's text as the printer wants it: a field a line, framed, with a check digit."""
    text = io.StringIO()
    for field in range(40):
        text.write(f"{field:02}|{(number + parcel) * 7919 % 10_007 + field:>12}\n")
    text.write(f"check {sum(map(int, str(number * parcel))) % 10}\n")
    return text.getvalue()


def ship(number, logger):
    characters = sum(len(label(number, parcel)) for parcel in range(PARCELS))
    logger.info("%d labels, %d characters", PARCELS, characters)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=120)
    logging.getLogger().setLevel(logging.INFO)
    with open(os.devnull, "w", encoding="utf-8") as sink:

        def handle(number):
            logger = opened(number, sink)
            ship(number, logger)
            if options.clean:
                closed(logger)

        harness.serve(handle, options)


if __name__ == "__main__":
    main()
