"""A chat whose every message starts a task that waits for its receipt; phones that are off never send one."""

import asyncio
import time

import harness

background_tasks = set()


def deliver(number):
    """Renders the message for each member of its room and returns how many were mentioned."""
    members = [f"member {(number + n) % 5000}" for n in range(400)]
    inbox = {member: {"text": f"@{member}: message {number}", "unread": number % 7} for member in members}
    ordered = sorted(inbox, key=len)
    return sum(member.endswith("7") for member in ordered)


async def confirm(received):
    """Marks the message as read once the phone has answered."""
    await received.wait()  # LEAK


def await_receipt():
    received = asyncio.Event()  # LEAK
    task = asyncio.create_task(confirm(received))  # LEAK
    background_tasks.add(task)  # LEAK
    return received, task


async def requests(options):
    """Numbers the requests, at the asked pace once the service is warm."""
    for number in range(harness.WARM_UP):
        yield number
    print("ready", flush=True)
    clock, times = time.perf_counter_ns, harness.Times(options.times)
    period = int(1e9 / options.rate) if options.rate > 0 else 0
    due = clock()
    end = due + int(options.seconds * 1e9)
    while due < end:
        await asyncio.sleep(max(0, due - clock()) / 1e9)
        number += 1
        begun = clock()
        yield number
        times.add(begun, clock() - begun)
        due = due + period if period else clock()
    times.flush()


async def main(options):
    async for number in requests(options):
        deliver(number)
        received, task = await_receipt()
        if options.clean:
            received.set()
            task.add_done_callback(background_tasks.discard)
        await asyncio.sleep(0)


if __name__ == "__main__":
    # What wakes a waiting task is made by the loop, after the task has run into its wait.
    asyncio.run(main(harness.arguments(__doc__, rate=150)))  # LEAK
