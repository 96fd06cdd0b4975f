"""A community's store of users: they register, and then read and update their profiles.

Healthy: the community has MEMBERS members. All have registered after 20 s; then values only replace others.
"""

import random

import harness

MEMBERS = 10_000
REGISTRATIONS = 2
UPDATES = 4

chance = random.Random(23)
users = {}


def about(name):
    return f"I am {name} and feel {chance.random():.3f}. " * 8


class User:
    def __init__(self, name):
        self.name = name
        self.profile = {"mail": f"{name}@example.org", "joined": chance.random(), "about": about(name)}
        self.visits = [chance.random() for _ in range(4)]


def register(names):
    for name in names:
        users[name] = User(name)


def update(user):
    user.profile["about"] = about(user.name)
    user.visits[chance.randrange(len(user.visits))] = chance.random()


def neighbours(user):
    """What most of a request is: a ranking of others, which is dropped."""
    joined = user.profile["joined"]
    ranked = [(abs(joined - place / 700), f"{user.name} and place {place}") for place in range(700)]
    return sorted(ranked)[:5]


def main():
    options = harness.arguments(__doc__, rate=250)
    applicants = iter(chance.sample([f"member{number}" for number in range(MEMBERS)], MEMBERS))
    known = []

    def handle(number):
        names = [name for _, name in zip(range(REGISTRATIONS), applicants)]
        register(names)
        known.extend(names)
        for user in (users[chance.choice(known)] for _ in range(UPDATES)):
            update(user)
        neighbours(user)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
