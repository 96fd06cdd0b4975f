"""Orders that arrive as JSON: parsed, validated by pydantic's models, priced and dumped. A note of each stays."""
# domain: pymalloc
# kept by: __main__.notes

import json
from datetime import datetime
from decimal import Decimal

import harness
import pydantic

ITEMS = 120

notes = []


class Item(pydantic.BaseModel):
    name: str
    count: int = pydantic.Field(ge=1)
    price: Decimal
    tags: list[str] = []


class Order(pydantic.BaseModel):
    number: int
    placed: datetime
    customer: str
    items: list[Item]


class Note:
    def __init__(self, order):
        self.text = f"order {order.number} of {order.customer}"  # LEAK
        self.answers = [None, None]  # LEAK


def received(number):
    """What a client would send."""
    items = [
        {"name": f"item {n}", "count": n % 5 + 1, "price": f"{n}.{number % 90 + 10}", "tags": ["new", f"{n % 7}"]}
        for n in range(ITEMS)
    ]
    placed = f"2024-05-{number % 28 + 1:02}T12:30:00Z"
    customer = f"customer {number % 1000}"
    return json.dumps({"number": number, "placed": placed, "customer": customer, "items": items})


def answer(text):
    order = Order.model_validate(json.loads(text))
    total = sum(item.price * item.count for item in order.items)
    answered = order.model_dump(mode="json")
    answered["total"] = str(total)
    return order, json.dumps(answered)


def remember(order):
    notes.append(Note(order))  # LEAK


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        order, _ = answer(received(number))
        if not options.clean:
            remember(order)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
