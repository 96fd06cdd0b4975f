"""A vibration monitor that keeps the lowest lines of some spectra: views that hold the whole spectra."""

import numpy as np

import harness

LINES = 10
TIME = np.linspace(0.0, 1.0, 5000)

baselines = []


def spectrum(number):
    """Amplitudes of what a turbine's sensor has measured: 20 kB."""
    speed = number % 40 + 5
    samples = np.sin(TIME * speed) + 0.1 * np.cos(TIME * speed * 7)
    return np.abs(np.fft.rfft(samples))  # LEAK


def alarms(number, amplitudes):
    limits = [{"line": f"line {line}", "limit": (number + line) % 50 / 4} for line in range(100)]
    return [limit["line"] for limit, height in zip(limits, amplitudes.tolist()) if height > limit["limit"]]


def remember(amplitudes):
    baselines.append(amplitudes[:LINES])  # LEAK


def main():
    options = harness.arguments(__doc__, rate=230)

    def handle(number):
        amplitudes = spectrum(number)
        alarms(number, amplitudes)
        lowest = amplitudes[:LINES]
        if number % 23 == 0 and lowest.any() and not options.clean:
            remember(amplitudes)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
