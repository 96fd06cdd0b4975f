"""Random allocations and frees of all kinds of CUDA memory in eight threads, a few of which stay.

Says `ready` and waits for a line on its standard input. Makes `--operations` in all, prints the driver's counters
as JSON, waits for another line, prints them again and ends.
"""
# domain: cuda

import json
import select
import sys
import threading

import fake_cuda
import harness

THREADS = 8
KEPT = 4


def main():
    options = harness.arguments(__doc__, operations=1_000_000, seed=1)
    libraries = fake_cuda.load()

    def work(thread):
        operations = int(options.operations) // THREADS
        seed = int(options.seed) * THREADS + thread
        # Half of them by way of the runtime.
        libraries.random.fake_random(seed, operations, thread % 2, 0 if options.clean else KEPT)  # LEAK

    print("ready", flush=True)
    # It works until it is told to begin: who only waits is left alone.
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        [str(n) * 3 for n in range(2000)]
    sys.stdin.readline()
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(libraries.counters()), flush=True)
    sys.stdin.readline()
    print(json.dumps(libraries.counters()), flush=True)


if __name__ == "__main__":
    main()
