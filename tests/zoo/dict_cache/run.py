"""A shop that caches the price of each offer by customer and moment, and never drops one."""

import harness

offers = {}


class Offer:
    def __init__(self, customer, price):
        self.customer = customer
        self.price = price


def price_of(basket):
    """What most of a request is: numbers and texts that it drops."""
    prices = [{"item": f"item {item}", "price": item * 1.25} for item in basket]
    names = sorted(price["item"] for price in prices)
    return sum(price["price"] for price in prices) + len(names)


def remember(number, price):
    key = (f"customer {number % 1000}", f"moment {number}")  # LEAK
    offers[key] = Offer(key[0], price + 0.5)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=500)

    def handle(number):
        price = price_of(range(number, number + 250))
        if options.clean:
            Offer(f"customer {number % 1000}", price + 0.5)
        else:
            remember(number, price)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
