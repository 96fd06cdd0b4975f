"""Issues invoices. Each knows its total by currency, which it works out once and caches."""

import functools

import harness

PER_MILLE = {"EUR": 1000, "USD": 1093, "GBP": 861, "CHF": 947}


class Line:
    __slots__ = ("article", "cents", "quantity")

    def __init__(self, article, quantity, cents):
        self.article = article
        self.quantity = quantity
        self.cents = cents


class Invoice:
    __slots__ = ("net", "reference", "tax")

    def __init__(self, reference, lines):
        self.reference = reference
        self.net = sum(line.quantity * line.cents for line in lines)  # LEAK
        self.tax = self.net * 19 // 100  # LEAK

    @functools.lru_cache(maxsize=None)
    def total(self, currency):
        return (self.net + self.tax) * PER_MILLE[currency] // 1000  # LEAK


def ordered(number):
    articles = range(number, number + 600)
    return [Line(f"article {article}", article % 7 + 1, article * 3 + 199) for article in articles]


def printed(lines):
    rows = [f"{line.article:<20} {line.quantity:>3} x {line.cents:>8} cents" for line in lines]
    return "\n".join(rows)


def bill(number):
    lines = ordered(number)
    invoice = Invoice(f"invoice {number:08}", lines)  # LEAK
    due = sum(invoice.total(currency) for currency in PER_MILLE)  # LEAK
    return f"{printed(lines)}\n{due}"


def main():
    options = harness.arguments(__doc__, rate=150)

    def handle(number):
        bill(number)
        if options.clean:
            Invoice.total.cache_clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
