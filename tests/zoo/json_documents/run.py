"""A payment webhook that parses small documents and keeps some by its id, in case it is delivered again."""

import json

import harness

deliveries = {}


def body(number):
    """A request's body as the payment service would send it."""
    lines = [{"article": f"article {(number + n) % 300}", "cents": 99 + n, "tax": n / 5} for n in range(25)]
    return json.dumps({"id": f"payment {number}", "customer": f"customer {number % 900}", "lines": lines})


def parse(text):
    return json.loads(text)  # LEAK


def receipt(document):
    """The text that the customer gets."""
    lines = [f"{line['article']:<20} {line['cents'] / 100:8.2f}" for line in document["lines"]]
    return "\n".join(sorted(lines) + [document["customer"]])


def main():
    options = harness.arguments(__doc__, rate=550)

    def handle(number):
        document = parse(body(number))
        receipt(document)
        if number % 40 == 0 and not options.clean:
            deliveries[document["id"]] = document  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
