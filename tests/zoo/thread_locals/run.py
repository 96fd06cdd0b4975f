"""Evaluates batches of sensor readings, each in a thread of its own, which has a context as any here."""

import threading

import harness

SENSORS = 48
READINGS = 150

contexts = {}


class Context:
    def __init__(self):
        self.means = {}  # LEAK


def context():
    """The calling thread's, made when it first asks."""
    name = threading.current_thread().name
    if name not in contexts:
        contexts[name] = Context()  # LEAK
    return contexts[name]


def readings(number, sensor):
    return [(f"s{sensor}", (number * 31 + sensor * reading) % 997 / 10) for reading in range(READINGS)]


def evaluate(number):
    for sensor in range(SENSORS):
        values = [value for _, value in readings(number, sensor)]
        context().means[f"sensor {sensor}"] = round(10 * sum(values) / len(values))  # LEAK


def main():
    options = harness.arguments(__doc__, rate=30)

    def handle(number):
        thread = threading.Thread(target=evaluate, args=(number,), name=f"batch {number}")  # LEAK
        thread.start()
        thread.join()
        if options.clean:
            del contexts[thread.name]

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
