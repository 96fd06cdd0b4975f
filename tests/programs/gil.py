"""One thread holds the GIL for ever, in C code that never lets go of it; the others wait.

Says `ready` and the holder's thread id, just before.
"""

import itertools
import os
import threading


def hold():
    os.write(1, b"ready %d\n" % threading.get_native_id())
    sum(itertools.repeat(1))


def main():
    forever = threading.Lock()
    forever.acquire()
    for _ in range(2):
        threading.Thread(target=forever.acquire, daemon=True).start()
    threading.Thread(target=hold, daemon=True).start()
    forever.acquire()


if __name__ == "__main__":
    main()
