"""A gateway for thermostats that never notices when one hangs up: socket and buffer stay."""

import resource
import socket

import harness

BUFFER = 8192

connections = []


class Connection:
    def __init__(self, peer):
        self.peer = peer
        self.buffer = bytearray(BUFFER)  # LEAK

    def receive(self):
        length = self.peer.recv_into(self.buffer)
        return self.buffer[:length].decode().split(",")


def schedule(number):
    """Heating plans for the rooms of a house."""
    plans = [{"room": f"room {n}", "degrees": 15 + (number + n) % 20 / 2} for n in range(1200)]
    return sorted(plans, key=lambda plan: plan["degrees"])


def connect():
    ours, theirs = socket.socketpair()  # LEAK
    theirs.sendall(b"thermostat,21.5,on")
    theirs.close()
    return Connection(ours)  # LEAK


def allow_many_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    options = harness.arguments(__doc__, rate=100)
    allow_many_files()

    def handle(number):
        schedule(number)
        if number % 5:
            return
        connection = connect()
        connection.receive()
        if options.clean:
            connection.peer.close()
        else:
            connections.append(connection)  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
