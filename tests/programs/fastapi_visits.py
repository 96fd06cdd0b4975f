"""FastAPI on uvicorn: one handler appends to a list of the module.

Says `ready PORT --rate RATE`, which are the arguments that `load.py` wants.
"""
# domain: pymalloc
# kept by: __main__.visits

import asyncio
import socket
import time

import fastapi
import harness
import uvicorn

options = harness.arguments(__doc__, rate=600)
app = fastapi.FastAPI()
times = harness.Times(options.times)
visits = []


class Visit:
    def __init__(self, path, query):
        self.path = path
        self.query = query  # LEAK
        self.tags = query.split()  # LEAK


@app.get("/items/{number}")
async def item(number: int):
    return {"number": number, "name": f"item {number}", "prices": [number * n for n in range(20)]}


@app.get("/search")
async def search(text: str, limit: int = 10):
    if not options.clean:
        visits.append(Visit("/search", text))  # LEAK
    return {"text": text, "found": [{"rank": n, "score": n / 7} for n in range(limit)]}


class Timed:
    """Notes the time of each request, from its arrival in the application to its last byte."""

    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        begun = time.perf_counter_ns()
        await self.inner(scope, receive, send)
        if scope["type"] == "http":
            times.add(begun, time.perf_counter_ns() - begun)


async def main():
    # asyncio turns off the wait for more data only for sockets that name their protocol.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Timed(app), log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    print("ready", listener.getsockname()[1], "--rate", options.rate, flush=True)
    asyncio.get_running_loop().call_later(options.seconds, setattr, server, "should_exit", True)
    await serving
    times.flush()


if __name__ == "__main__":
    asyncio.run(main())
