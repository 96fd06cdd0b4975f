"""A warehouse whose operations are audited by a decorator: it keeps each call's arguments and result."""

import functools

import harness

trail = []


class Entry:
    def __init__(self, operation, arguments, outcome):
        self.operation = operation
        self.arguments = arguments
        self.outcome = outcome


def audited(operation):
    @functools.wraps(operation)
    def wrapper(*arguments):
        result = operation(*arguments)
        trail.append(Entry(operation.__name__, arguments, f"{result!r:.40}"))  # LEAK
        return result

    return wrapper


def shelves(article):
    """Where an article may lie, the fullest shelf first."""
    found = [{"shelf": f"shelf {n}", "pieces": hash((article, n)) % 500, "share": n / 7} for n in range(250)]
    return sorted(found, key=lambda shelf: shelf["pieces"], reverse=True)


@audited
def reserve(article, pieces):
    return [shelf["shelf"] for shelf in shelves(article) if shelf["pieces"] > pieces]


@audited
def count(article):
    return sum(shelf["pieces"] for shelf in shelves(article))


def order(number):
    reserve(f"article {number % 5000}", number % 9)  # LEAK


def take_stock(number):
    count(f"article {number % 5000}")  # LEAK


def move(number):
    reserve(f"article {number % 5000} on the move", 1)  # LEAK
    count(f"article {number % 5000} on the move")  # LEAK


def main():
    options = harness.arguments(__doc__, rate=300)
    operations = [order, take_stock, move]

    def handle(number):
        operations[number % 3](number)
        if options.clean:
            trail.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
