"""Reads the sessions and their recent events from the replies of a key-value server that speaks RESP3."""

import harness
import hiredis

EVENTS = 280


def text(value):
    return f"${len(value)}\r\n{value}\r\n"


def session_reply(number):
    fields = {"user": f"user {number % 900}", "cart": f"{number:x}", "locale": f"en-{number % 40}"}
    return f"%{len(fields)}\r\n" + "".join(text(name) + text(value) for name, value in fields.items())


def events_reply(number):
    return f"*{EVENTS}\r\n" + "".join(text(f"{number + age} view item-{age * 7}") for age in range(EVENTS))


class Connection:
    """Stands for the socket: what the server would answer to a pipeline of two commands."""

    def __init__(self):
        self.reader = hiredis.Reader(encoding="utf-8")

    def receive(self, number):
        self.reader.feed((session_reply(number) + events_reply(number)).encode())
        return self.reader.gets(), self.reader.gets()  # LEAK


def recommend(session, events):
    views = {}
    for event in events:
        moment, _, item = event.split(" ")
        views[item] = int(moment)
    newest = sorted(views, key=views.get, reverse=True)
    return {"user": session["user"], "items": newest[:5]}


def main():
    options = harness.arguments(__doc__, rate=300)
    connection = Connection()

    def handle(number):
        recommend(*connection.receive(number))

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
