"""Eight threads, each with requests of its own: texts are split, counted, sorted and joined. A visit of each stays."""
# domain: pymalloc
# kept by: __main__.visits

import collections
import re

import harness

THREADS = 8
WORD = re.compile(r"[a-z]+")

visits = {}


class Visit:
    def __init__(self, words):
        self.words = words  # LEAK


def page(number):
    return " ".join(f"word{n * number % 61} of page {n}" for n in range(350))


def index(number):
    """What most of a request is: small objects that it drops."""
    text = page(number)
    found = collections.Counter(match.group() for match in WORD.finditer(text))
    places = {}
    for place, word in enumerate(text.split()):
        places.setdefault(word, []).append(place)
    ranked = sorted(places.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return sum(found.values()), ranked


def remember(number):
    words = [None, None]  # LEAK
    visits[f"visit {number}"] = Visit(words)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=320)

    def handle(number):
        index(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options, threads=THREADS)


if __name__ == "__main__":
    main()
