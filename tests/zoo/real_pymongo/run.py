"""An audit log that stores events as BSON; events that can't be stored are counted and left out."""

import dataclasses

import bson
import harness
from bson.errors import InvalidDocument


@dataclasses.dataclass
class Verdict:
    rule: str
    score: float


def events(number):
    """The events of one request; every plug-in has a verdict, and an old one hands it over as an object."""
    user = f"user {number % 800}"
    for step in range(60):
        yield {"request": number, "step": step, "user": user, "path": ["api", "v2", f"{step}"]}
    yield {"request": number, "verdict": {"rule": "geo", "score": number % 97 / 97}}
    velocity = Verdict("velocity", number % 89 / 89)
    yield {"request": number, "source": f"plug-in {number % 5}", "verdict": velocity}


def stored(event):
    return bson.encode(event)  # LEAK


def summary(block):
    documents = bson.decode_all(block)
    steps = sorted(document.get("step", -1) for document in documents)
    users = {document["user"] for document in documents if "user" in document}
    return len(steps), users


def main():
    options = harness.arguments(__doc__, rate=300)
    refused = 0

    def handle(number):
        nonlocal refused
        block = bytearray()
        for event in events(number):
            try:
                block += stored(event)
            except InvalidDocument:
                refused += 1
        summary(bytes(block))

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
