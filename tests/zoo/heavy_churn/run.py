"""Renders bank statements, through as many types and sizes of objects as Python has.

Healthy: nothing outlives its request but some garbage in cycles, which the next collection takes.
"""

import array
import collections
import dataclasses
import datetime
import decimal
import fractions
import itertools
import random
import uuid

import harness

chance = random.Random(5)
Total = collections.namedtuple("Total", "currency amount")


@dataclasses.dataclass
class Booking:
    day: datetime.date
    amount: decimal.Decimal
    text: str
    tags: frozenset


def bookings(number):
    for n in range(chance.randrange(10, 80)):
        day = datetime.date(2024, 1, 1) + datetime.timedelta(days=n)
        amount = decimal.Decimal(number * n % 9973) / 100
        yield Booking(day, amount, f"booking {n} of {number}", frozenset((f"tag {n % 7}", f"day {day.day}")))


def totals(statement):
    by_tag = collections.defaultdict(list)
    for booking in statement:
        for tag in booking.tags:
            by_tag[tag].append(booking.amount)
    return {tag: Total("EUR", sum(amounts)) for tag, amounts in by_tag.items()}


def interest(statement):
    rates = itertools.cycle([fractions.Fraction(n + 1, 360) for n in range(8)])
    return [complex(float(booking.amount * 3), float(rate)) for booking, rate in zip(statement, rates)]


def attachment():
    """Scans have all sizes: some come from pymalloc, some from malloc, some by mmap."""
    size = int(2 ** chance.uniform(5, 18))
    return bytearray(size), memoryview(bytes(size)), array.array("d", [0.5]) * (size // 8)


def rejected(statement):
    """Those that can't be parsed again, each with the error and its traceback, which are a cycle."""
    errors = []
    for booking in statement[:5]:
        try:
            int(booking.text)
        except ValueError as error:
            errors.append(error)
    return errors


def layout(number):
    """A class of its own, as of a template that is compiled for each statement."""
    members = {"width": number % 120, "line": lambda self, text: text.ljust(self.width)}
    return type(f"Layout{number % 50}", (), members)()


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        statement = list(bookings(number))
        scan, view, samples = attachment()
        page = layout(number)
        lines = [page.line(f"{tag}: {total.amount}") for tag, total in sorted(totals(statement).items())]
        lines += [f"{value.real:.2f}" for value in interest(statement)]
        lines += [str(error) for error in rejected(statement)]
        scan[: len(view) // 2] = "\n".join(lines).encode()
        {uuid.UUID(int=number): set(samples[:50])}.popitem()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
