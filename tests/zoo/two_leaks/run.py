"""A chat. Delivers messages, counts who mentions whom and notes when a room was last written to."""

import harness

ROOMS = 40
MEMBERS = 700

mentions = {}
activity = []


class Activity:
    __slots__ = ("line", "room")

    def __init__(self, room, line):
        self.room = room
        self.line = line


class Mention:
    __slots__ = ("excerpt", "message")

    def __init__(self, message, excerpt):
        self.message = message
        self.excerpt = excerpt


def note(room, number):
    line = f"{number:010} in {room}"  # LEAK
    activity.append(Activity(room, line))  # LEAK


def mention(number):
    pair = f"member {number % 977} of visit {number} mentions member {number % 991}"  # LEAK
    excerpt = f"the beginning of message {number:010}, which goes on for another line or two"  # LEAK
    mentions[pair] = Mention(f"message {number:010}", excerpt)  # LEAK


def deliver(room, number):
    """The message as each member of the room sees it, in the order of the members' names."""
    seen = [{"member": f"member {member}", "text": f"{room}: {number}"} for member in range(MEMBERS)]
    return sorted(seen, key=lambda one: one["member"])


def main():
    options = harness.arguments(__doc__, rate=250)
    rooms = [f"room {room}" for room in range(ROOMS)]

    def handle(number):
        room = rooms[number % ROOMS]
        deliver(room, number)
        note(room, number)
        mention(number)
        if options.clean:
            activity.clear()
            mentions.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
