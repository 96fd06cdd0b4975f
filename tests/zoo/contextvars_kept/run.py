"""Books transfers. Who asked for what is in context variables; the audit keeps each request's context."""

import contextvars

import harness

client = contextvars.ContextVar("client")
purpose = contextvars.ContextVar("purpose")
trace = contextvars.ContextVar("trace")
audit = []


class Entry:
    __slots__ = ("account", "cents")

    def __init__(self, account, cents):
        self.account = account
        self.cents = cents


def entries(number):
    """What a transfer books: fees, shares and taxes on either side."""
    return [Entry(f"account {number % 89}/{part}", (number + part) * 13 % 10_000) for part in range(700)]


def book(number):
    booked = sorted(entries(number), key=lambda entry: entry.cents)
    return f"{client.get()}: {sum(entry.cents for entry in booked)} for {purpose.get()}"


def transfer(number):
    client.set(f"client {number % 5000}")  # LEAK
    purpose.set(f"rent of flat {number % 300}, month {number % 12 + 1}")  # LEAK
    trace.set(f"trace-{number:032x}")  # LEAK
    return book(number)


def request(number):
    context = contextvars.copy_context()  # LEAK
    context.run(transfer, number)
    audit.append(context)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        request(number)
        if options.clean:
            audit.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
