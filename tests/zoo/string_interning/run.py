"""A linter of SQL that interns the names it reads and looks for each with a pattern of its own.

Healthy: a schema has TABLES * COLUMNS names, so that the symbol table is complete early, and re keeps at most
512 patterns.
"""

import random
import re
import sys

import harness

TABLES = 40
COLUMNS = 60
NAMES = 70

chance = random.Random(37)
symbols = {}


class Symbol:
    def __init__(self, name):
        self.name = name
        self.uses = 0


def symbol(text):
    name = sys.intern(text)
    if name not in symbols:
        symbols[name] = Symbol(name)
    return symbols[name]


def random_name():
    return f"table{chance.randrange(TABLES)}_column{chance.randrange(COLUMNS)}"


def statement():
    """The text of a query, its names being new strings each time."""
    return "select " + ", ".join(f"{random_name()} = {chance.randrange(100)}" for _ in range(NAMES))


def lint(text):
    found = [symbol(word) for word in re.findall(r"table\d+_column\d+", text)]
    for used in found:
        used.uses += 1
    pattern = re.compile(rf"\b{found[0].name}\s*=\s*(?P<value>\d+)")
    values = [match["value"] for match in pattern.finditer(text)]
    return values, [f"{used.name}: {used.uses * 0.5}" for used in found]


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        lint(statement())

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
