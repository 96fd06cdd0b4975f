"""Takes uploads. Each reports its progress through hooks, which know their upload.

The collector is off, as it once was blamed for slow requests.
"""

import gc
import zlib

import harness

BLOCK = 96
BLOCKS = 500


class Upload:
    def __init__(self, name):
        self.name = name
        self.received = 0
        self.digest = 0
        self.hooks = []  # LEAK

    def on_block(self, hook):
        self.hooks.append(hook)  # LEAK

    def receive(self, block):
        self.received += len(block)  # LEAK
        self.digest = zlib.crc32(block, self.digest)  # LEAK
        for hook in self.hooks:
            hook()


class Quarters:
    """Notes when each quarter of an upload has come."""

    def __init__(self, upload):
        self.upload = upload
        self.notes = []  # LEAK
        upload.on_block(self.note)  # LEAK

    def note(self):
        upload = self.upload
        if upload.received % (BLOCK * BLOCKS // 4) == 0:
            self.notes.append(f"{upload.name}: {upload.received} bytes, {upload.digest:08x}")  # LEAK


def blocks(number):
    """What the client sends, in the order in which it comes."""
    for block in range(BLOCKS):
        yield f"{number}:{block}:".encode().ljust(BLOCK, b"#")


def receive(number):
    upload = Upload(f"upload-{number:08}.bin")  # LEAK
    Quarters(upload)  # LEAK
    for block in blocks(number):
        upload.receive(block)
    return upload


def main():
    options = harness.arguments(__doc__, rate=200)
    gc.disable()

    def handle(number):
        upload = receive(number)
        if options.clean:
            upload.hooks.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
