"""Settles payments. One in ten is declined; the nightly report shall say why."""

import harness

DECLINED_OF = 10

declined = []


class Declined(Exception):
    pass


class Posting:
    __slots__ = ("account", "cents")

    def __init__(self, account, cents):
        self.account = account
        self.cents = cents


def ledger(number):
    """The account's latest postings, by which its balance is judged."""
    for entry in range(650):
        yield Posting(f"account {number % 977} entry {entry}", (entry * 37 + number) % 5000)


def balance(postings):
    signed = (posting.cents if posting.account.endswith("0") else -posting.cents for posting in postings)
    return sum(signed)  # LEAK


def judge(number):
    total = balance(ledger(number))
    if number % DECLINED_OF == 0:
        checks = [f"payment {number}: check {check} of balance {total}" for check in range(36)]  # LEAK
        raise Declined(checks[-1])  # LEAK
    return total


def settle(number):
    try:
        return judge(number)  # LEAK
    except Declined as error:
        declined.append(error)  # LEAK
        return None


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        settle(number)  # LEAK
        if options.clean:
            declined.clear()

    # The frames that the tracebacks hold hold the request's number, too.
    harness.serve(handle, options)  # LEAK


if __name__ == "__main__":
    main()
