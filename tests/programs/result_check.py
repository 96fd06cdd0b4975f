"""A computation whose result and memory depend on nothing but the number of its rounds.

Works until a byte comes on its standard input, or for `--rounds`; then prints as JSON how many rounds
it made, a digest of all that it computed, and what it holds. Run again with the same number of rounds
and `PYTHONHASHSEED`, it must print the same.
"""

import argparse
import gc
import hashlib
import json
import mmap
import select
import sys
import threading


def compute(number, kept):
    """One round: churn of all sizes, and a little that stays."""
    table = {f"key {number} {n}": [n, n * number] for n in range(200)}
    text = ",".join(f"{key}={value}" for key, value in table.items())
    block = bytearray(100_000 + number % 1000)
    block[number % len(block)] = number & 255
    with mmap.mmap(-1, 65536, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area[number % 65536] = 1
        text += str(area.find(b"\1"))
    kept[number % 1000] = [number, text[:20]]
    return text.encode() + block[:64]


def compute_elsewhere(number, kept):
    """One round in a thread of its own."""
    results = []
    thread = threading.Thread(target=lambda: results.append(compute(number, kept)))
    thread.start()
    thread.join()
    return results[0]


def memory():
    """Resident bytes that are no file's (those of code become resident when it is looked at for probes), and
    the number of maps, without the page that uprobes add."""
    with open("/proc/self/smaps_rollup") as file:
        own = next(int(line.split()[1]) * 1024 for line in file if line.startswith("Anonymous:"))
    with open("/proc/self/maps") as file:
        maps = [line for line in file if "[uprobes]" not in line]
    return own, len(maps)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()

    digest, kept = hashlib.sha256(), {}
    gc.collect()
    blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
    print("ready", flush=True)
    number = 0
    while number < options.rounds or not options.rounds:
        asked, _, _ = select.select([sys.stdin], [], [], 0)
        if asked and not options.rounds:
            break
        work = compute if number % 50 else compute_elsewhere
        digest.update(work(number, kept))
        number += 1
    gc.collect()
    blocks, objects = sys.getallocatedblocks() - blocks, len(gc.get_objects()) - objects
    own, maps = memory()
    facts = {"rounds": number, "digest": digest.hexdigest(), "kept": len(kept)}
    facts.update({"blocks": blocks, "objects": objects, "own": own, "maps": maps})
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
