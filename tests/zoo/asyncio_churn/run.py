"""A chat on asyncio: each message fans out to the members of its room, through tasks, queues and timeouts.

Healthy: every task is awaited by its group, a room's queues go with the message, and slow members time out.
"""

import asyncio
import time

import harness

MEMBERS = 12
DEADLINE = 0.02


class Member:
    def __init__(self, name):
        self.name = name
        self.inbox = asyncio.Queue(maxsize=4)

    async def read(self):
        """What is shown of two messages; every fifth member is away."""
        if self.name.endswith(("0", "5")):
            await asyncio.sleep(1.0)
        return [self.render(await self.inbox.get()) for _ in range(2)]

    def render(self, message):
        words = [f"{word} for {self.name}" for word in message["text"].split()]
        return {"words": words, "length": sum(map(len, words)) * 0.5}


async def deliver(member, message):
    try:
        async with asyncio.timeout(DEADLINE):
            reading = asyncio.create_task(member.read())
            await member.inbox.put(message)
            await member.inbox.put({"text": f"{member.name} was told"})
            return await reading
    except TimeoutError:
        return None


async def handle(number):
    message = {"text": f"message {number} " + " ".join(f"word{n}" for n in range(12))}
    async with asyncio.TaskGroup() as group:
        for n in range(MEMBERS):
            group.create_task(deliver(Member(f"member {number + n}"), message))


async def timed(number, times):
    clock = time.perf_counter_ns
    begun = clock()
    await handle(number)
    times.add(begun, clock() - begun)


async def main():
    options = harness.arguments(__doc__, rate=180)
    times = harness.Times(options.times)
    loop = asyncio.get_running_loop()
    for start in range(0, harness.WARM_UP, 10):
        await asyncio.gather(*(handle(number) for number in range(start, start + 10)))
    print("ready", flush=True)

    due = loop.time()
    end = due + options.seconds
    number = harness.WARM_UP
    async with asyncio.TaskGroup() as requests:
        while due < end:
            requests.create_task(timed(number, times))
            number += 1
            due = due + 1 / options.rate if options.rate > 0 else loop.time()
            await asyncio.sleep(max(0.0, due - loop.time()))
    times.flush()


if __name__ == "__main__":
    asyncio.run(main())
