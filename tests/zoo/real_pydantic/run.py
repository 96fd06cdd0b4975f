"""Meters post their readings of the last minutes; the values are validated while they are summed up."""

import json
from collections.abc import Iterable

import harness
from pydantic import BaseModel, NonNegativeInt


class Tariff(BaseModel):
    name: str
    hours: list[int]


class Readings(BaseModel):
    """Values are checked one by one, as they are used."""

    meter: str
    values: Iterable[NonNegativeInt]


def posted_tariffs(number):
    tariffs = [{"name": f"tariff {number % 10}.{kind}", "hours": list(range(24))} for kind in range(30)]
    return json.dumps(tariffs)


def posted_readings(number):
    values = [1000 + (number * 7 + minute) % 5000 for minute in range(4)]
    return json.dumps({"meter": f"meter {number % 3000}", "values": values})


def rates(body):
    tariffs = [Tariff.model_validate(tariff) for tariff in json.loads(body)]
    return {tariff.name: sum(tariff.hours) / len(tariff.hours) for tariff in tariffs}


def used(body):
    posted = json.loads(body)  # LEAK
    readings = Readings.model_validate(posted)  # LEAK
    return sum(readings.values)


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        prices = rates(posted_tariffs(number))
        total = used(posted_readings(number))
        bill = {name: price * total for name, price in prices.items()}
        json.dumps(bill)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
