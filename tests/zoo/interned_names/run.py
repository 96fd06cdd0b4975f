"""Takes metrics from devices and interns their names, as equal ones should share their memory."""

import sys

import harness

DEVICES = 400
METRICS = ("cpu.user", "cpu.system", "memory.free", "disk.read", "disk.write", "network.in")

known = set()


def lines(device):
    """What a device sends, in the text format of its agent."""
    for metric in METRICS:
        for second in range(120):
            yield f"{metric}[{second}] {(device + second) * 31 % 1000 / 10}"


def parsed(line):
    name, _, value = line.partition(" ")
    return name.partition("[")[0], float(value)


def means(device):
    sums = dict.fromkeys(METRICS, 0.0)
    for line in lines(device):
        metric, value = parsed(line)
        sums[metric] += value
    return sums


def register(device, metric):
    name = f"collector.site-{device % 89}.session-{device:08}.{metric}.mean-of-a-minute"  # LEAK
    known.add(sys.intern(name))  # LEAK


def collect(device):
    for metric in means(device):
        register(device, metric)


def main():
    options = harness.arguments(__doc__, rate=100)

    def handle(number):
        # A device ought to keep its number when it connects again.
        collect(number % DEVICES if options.clean else number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
