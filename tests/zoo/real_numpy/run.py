"""Finds when a ball on each court crosses the net: the roots of its height's polynomial over time."""

import harness
import numpy as np

NET = 0.91
POINTS = 520


def track(number):
    """A camera's points of one flight: moments and heights above the net."""
    lift = 3 + number % 50 / 20
    moments = [step / 50 for step in range(POINTS)]
    return [(moment, 1.1 - NET + lift * moment - 4.9 * moment**2) for moment in moments]


def parabola(points):
    """The coefficients of the curve through the first, the middle and the last point, highest power first."""
    (a, at_a), (b, at_b), (c, at_c) = points[0], points[len(points) // 2], points[-1]
    slope = (at_b - at_a) / (b - a)
    bend = ((at_c - at_b) / (c - b) - slope) / (c - a)
    return [bend, slope - bend * (a + b), at_a - a * (slope - bend * b)]


def crossings(curve):
    roots = np.roots(curve)  # LEAK
    return sorted(float(root.real) for root in roots if abs(root.imag) < 1e-9 and root.real >= 0)


def row(moment, height):
    return f"{moment:.2f} s: {height:.2f} m {'over' if height > 0 else 'below'}"


def report(number, points, moments):
    return {"court": number % 16, "crossings": moments, "rows": [row(*point) for point in points]}


def main():
    options = harness.arguments(__doc__, rate=100)

    def handle(number):
        points = track(number)
        report(number, points, crossings(parabola(points)))

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
