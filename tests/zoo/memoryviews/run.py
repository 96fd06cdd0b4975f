"""A tracker gateway that keeps some packets' headers: views, each of which holds its whole packet."""

import harness

HEADER = 16
BATCH = 50

headers = []


def receive(number):
    """A packet as it comes from the network: a header, then positions; 2 to 8 kB."""
    size = 2048 + number * 997 % 6144
    packet = bytearray(size)  # LEAK
    packet[:HEADER] = number.to_bytes(HEADER, "big")
    return packet


def positions(packet):
    """The packet's first positions, in degrees."""
    places = range(HEADER, HEADER + 60, 2)
    return [{"lat": packet[at] / 2 - 64, "lon": packet[at + 1] / 2 - 64} for at in places]


def batch(number):
    """Receives and decodes some packets and returns the last one."""
    for n in range(BATCH):
        packet = receive(number * BATCH + n)
        track = positions(packet)
        track.sort(key=lambda position: position["lat"])
    return packet


def remember(packet):
    headers.append(memoryview(packet)[:HEADER])  # LEAK


def main():
    options = harness.arguments(__doc__, rate=120)

    def handle(number):
        packet = batch(number)
        if number % 3 == 0 and not options.clean:
            remember(packet)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
