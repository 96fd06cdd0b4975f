"""Suggests how a search phrase may go on, from a tree of the words of all phrases that were ever searched."""

import harness

VERBS = ("buy", "compare", "repair", "sell", "rent")

phrases = {}


class Found:
    __slots__ = ("score", "title")

    def __init__(self, title, score):
        self.title = title
        self.score = score


def insert(tree, words, at=0):
    if at < len(words):
        insert(tree.setdefault(words[at], {}), words, at + 1)  # LEAK


def ranked(number):
    """What is found for the phrase, best first."""
    found = [Found(f"item {item}", (number * 7919 + item * 104_729) % 65_521) for item in range(1000)]
    return sorted(found, key=lambda one: one.score, reverse=True)


def searched(number):
    verb = VERBS[number % len(VERBS)]
    return f"{verb} shoes in{number % 90} size{number % 40} for customer{number} by tomorrow"


def search(number, tree):
    words = searched(number).split()  # LEAK
    insert(tree, words)
    return ranked(number)[:10]


def main():
    options = harness.arguments(__doc__, rate=150)

    def handle(number):
        search(number, {} if options.clean else phrases)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
