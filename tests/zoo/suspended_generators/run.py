"""Searches an order history. What is found comes in pages, by a cursor; few want more than the first."""

import harness

ORDERS = 1500
PAGE = 50
CUSTOMERS = 100_000

cursors = {}


def orders(first):
    for order in range(first, first + PAGE):
        yield {"order": f"order {order}", "cents": order * 17 % 9973, "open": order % 3 == 0}


def page(title, first):
    """The page's text, of which the client shows the beginning."""
    cents = sum(order["cents"] for order in orders(first) if not order["open"])
    return f"{title} from {first}: {cents / 100:.2f}"


def pages(customer):  # LEAK
    name = f"customer {customer:06}"  # LEAK
    title = f"orders of {name}, latest first"  # LEAK
    for first in range(customer, customer + ORDERS, PAGE):  # LEAK
        yield page(title, first)


def search(number):
    characters = sum(map(len, pages(number % CUSTOMERS)))
    cursor = f"cursor {number:09} of {characters}"  # LEAK
    cursors[cursor] = pages(number % CUSTOMERS)  # LEAK
    next(cursors[cursor])
    return cursor


def main():
    options = harness.arguments(__doc__, rate=150)

    def handle(number):
        cursor = search(number)
        if options.clean:
            del cursors[cursor]

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
