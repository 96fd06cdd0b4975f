"""A status API behind a middleware that counts answers; an outdated client posts where it should get."""

import asyncio
import collections
import time

import harness
from aiohttp import web

OUT_OF_DATE = 10
PATH = "/services/{name}"


@web.middleware
async def counting(request, handler):
    counts = request.app["counts"]
    try:
        response = await handler(request)  # LEAK
    except web.HTTPException as error:
        counts[error.status] += 1
        raise
    counts[response.status] += 1
    return response


async def status(request):
    name = request.match_info["name"]
    checks = [{"check": f"{name}.{step}", "seconds": step / 4, "fine": step % 9 > 0} for step in range(130)]
    return web.json_response({"service": name, "checks": sorted(checks, key=lambda check: -check["seconds"])})


async def call(reader, writer, number):
    verb = "GET" if number % OUT_OF_DATE else "POST"
    writer.write(f"{verb} /services/s{number % 300} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def calls(port, options):
    """The clients: one connection, at the asked pace."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(harness.WARM_UP):
        await call(reader, writer, number)
    print("ready", flush=True)
    start = time.monotonic()
    number = 0
    while (due := start + number / options.rate) < start + options.seconds:
        await asyncio.sleep(due - time.monotonic())
        await call(reader, writer, number)
        number += 1
    writer.close()


async def serve(options):
    app = web.Application(middlewares=[counting])
    app["counts"] = collections.Counter()
    app.router.add_get(PATH, status)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await calls(runner.addresses[0][1], options)
    await runner.cleanup()


def main():
    asyncio.run(serve(harness.arguments(__doc__, rate=150)))  # LEAK


if __name__ == "__main__":
    main()
