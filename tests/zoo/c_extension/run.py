"""An auction that sorts bids by C's qsort; the comparison notes near ties for an inquiry that never comes."""

import ctypes

import harness

BIDS = 64
CLOSE = 0.0012

Bids = ctypes.c_double * BIDS
Bid = ctypes.POINTER(ctypes.c_double)
Comparison = ctypes.CFUNCTYPE(ctypes.c_int, Bid, Bid)
qsort = ctypes.CDLL(None).qsort
qsort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, Comparison]

near_ties = []


class NearTie:
    def __init__(self, higher, lower):
        self.higher = higher
        self.lower = lower


def note(left, right):
    near_ties.append(NearTie(f"bid {left:.6f}", f"bid {right:.6f}"))  # LEAK


def bids(number):
    """Amounts that differ from request to request, between 0 and 1."""
    return Bids(*((number * 7919 + n * n * 104729) % 99991 / 99991 for n in range(BIDS)))


@Comparison
def compare(left, right):
    a, b = left[0], right[0]
    if abs(a - b) < CLOSE:
        note(a, b)
    return (a > b) - (a < b)


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        amounts = bids(number)
        qsort(amounts, BIDS, ctypes.sizeof(ctypes.c_double), compare)
        shown = [f"{amount:.2f}" for amount in amounts]
        shown.reverse()
        if options.clean:
            near_ties.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
