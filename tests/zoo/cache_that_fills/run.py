"""A shop that caches its product pages by id while a crawler visits them all in random order, over and over.

Healthy: there are PRODUCTS ids and no others. The first round takes about 20 s; from then on every page is
known and none is added.
"""

import random

import harness

PRODUCTS = 20_000
VISITS = 2

pages = {}


class Page:
    def __init__(self, product):
        self.product = product
        self.price = product * 0.37 + 1.5
        self.title = f"Product {product} of our autumn collection"
        self.body = f"<h1>{self.title}</h1><p>{self.price:.2f}</p>" + "<li>feature</li>" * 12


def page_of(product):
    if product not in pages:
        pages[product] = Page(product)
    return pages[product]


def recommendations(page):
    """What most of a request is: products like this one, ranked and dropped."""
    others = range(1000, 1120)
    scores = [(abs(page.price - other * 0.21), f"like {page.product}: {other}") for other in others]
    return [text for _, text in sorted(scores)[:10]]


def main():
    options = harness.arguments(__doc__, rate=500)
    crawl = random.Random(7).sample(range(PRODUCTS), PRODUCTS)

    def handle(number):
        for visit in range(number * VISITS, (number + 1) * VISITS):
            page = page_of(crawl[visit % PRODUCTS])
            page.body.count(recommendations(page)[0])

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
