"""Objects that only numpy's and pandas' arrays hold, and says by which chain, as `retained.py` does."""

import json
import sys

import numpy
import pandas


class InArray:
    pass


class InTable:
    pass


class InColumn:
    pass


array = numpy.array([InArray() for _ in range(300)], dtype=object)
table = numpy.empty((20, 10), dtype=object)
for row in range(20):
    for column in range(10):
        table[row, column] = InTable()
series = pandas.Series([InColumn() for _ in range(100)])
truth = {
    "InArray": ["module __main__", "__main__.array", "ndarray[*]", "__main__.InArray"],
    "InTable": ["module __main__", "__main__.table", "ndarray[*]", "__main__.InTable"],
    "InColumn": ["module __main__", "__main__.series", "…", "ndarray[*]", "__main__.InColumn"],
}
del row, column
print("ready", json.dumps({"truth": truth, "cycles": {}}), flush=True)
sys.stdin.read()
