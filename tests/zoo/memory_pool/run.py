"""Transfers of files through a pool of buffers, as many at once as chance brings.

Healthy: no more than MOST transfers are open at once. The pool grows with each new peak, up to that, and its
buffers are used again for ever.
"""

import random

import harness

BUFFER = 64 * 1024
MOST = 250

chance = random.Random(13)


class Pool:
    def __init__(self):
        self.free = []
        self.made = 0

    def borrow(self):
        if self.free:
            return self.free.pop()
        self.made += 1
        return bytearray(BUFFER)

    def give_back(self, buffer):
        self.free.append(buffer)


class Transfer:
    def __init__(self, number, pool):
        self.name = f"transfer {number}"
        self.pool = pool
        self.buffer = pool.borrow()
        self.parts_left = chance.randrange(1, 30)

    def step(self, number):
        """Copies the next part and reports; closes at the last one."""
        self.buffer[:1024] = number.to_bytes(1024, "big")
        self.parts_left -= 1
        if self.parts_left == 0:
            self.pool.give_back(self.buffer)
        digest = [byte * 0.5 for byte in self.buffer[824:1024]]
        return {"name": self.name, "left": self.parts_left, "digest": digest}


def wanted(number):
    """How many transfers are open at once: a crowd of random size every 3 s, seldom a large one."""
    crowd = random.Random(number // 450).betavariate(1.2, 3)
    return int(10 + (MOST - 10) * crowd)


def main():
    options = harness.arguments(__doc__, rate=150)
    pool = Pool()
    transfers = []

    def handle(number):
        for new in range(len(transfers), wanted(number)):
            transfers.append(Transfer(number + new, pool))
        for transfer in chance.sample(transfers, min(60, len(transfers))):
            transfer.step(number)
        transfers[:] = [transfer for transfer in transfers if transfer.parts_left]

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
