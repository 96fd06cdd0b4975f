"""An HTTP/1.1 server on asyncio's streams alone: looks up, ranks, answers in JSON. Each search leaves a visit.

Says `ready PORT --rate RATE`, which are the arguments that `load.py` wants.
"""
# domain: pymalloc
# kept by: __main__.visits

import asyncio
import json
import time
import urllib.parse

import harness

RATE = 400
ITEMS = 400

visits = []


class Visit:
    def __init__(self, text):
        self.words = text.split()  # LEAK


def ranked(text):
    """What both kinds of requests take most of their time for."""
    found = [{"rank": n, "score": hash((text, n)) % 1000 / 7, "title": f"{text} {n}"} for n in range(ITEMS)]
    return sorted(found, key=lambda one: one["score"], reverse=True)


def answer(target, clean):
    """What is said to a request's first line."""
    path, _, query = target.partition("?")
    if path.startswith("/items/"):
        number = int(path.rpartition("/")[2])
        return {"number": number, "related": ranked(f"item {number}")}
    text = urllib.parse.parse_qs(query)["text"][0]
    if not clean:
        visits.append(Visit(text))  # LEAK
    return {"text": text, "found": ranked(text)}


async def converse(reader, writer, clean, times):
    """All requests of one connection. Each is timed from the arrival of its first line to its last byte."""
    clock = time.perf_counter_ns
    while line := await reader.readline():
        begun = clock()
        headers = {}
        while (header := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        _, target, _ = line.decode().split()
        body = json.dumps(answer(target, clean)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        times.add(begun, clock() - begun)
        if headers.get("connection", "").lower() == "close":
            break
    writer.close()


async def main():
    options = harness.arguments(__doc__, rate=RATE)
    times = harness.Times(options.times)

    async def connected(reader, writer):
        await converse(reader, writer, options.clean, times)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], "--rate", options.rate, flush=True)
    await asyncio.sleep(options.seconds)
    server.close()
    times.flush()


if __name__ == "__main__":
    asyncio.run(main())
