"""Sends requests to the FastAPI program on loopback at a steady rate, until it is gone or time is over."""

import argparse
import http.client
import threading
import time


def send(port, period, end, said):
    """Sends requests over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    number = 0
    due = time.monotonic()
    while time.monotonic() < end:
        path = f"/search?text=query+number+{number}" if number % 2 else f"/items/{number}"
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return
        if answer.status != 200:
            raise SystemExit(f"{path}: status {answer.status}")
        number += 1
        if number == 100:
            said.release()
        due += period
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=600.0, help="requests a second; 0: back to back")
    parser.add_argument("--connections", type=int, default=2, help="at the same time")
    parser.add_argument("--seconds", type=float, default=600.0, help="end after this long")
    options = parser.parse_args()

    period = options.connections / options.rate if options.rate > 0 else 0.0
    end = time.monotonic() + options.seconds
    said = threading.Semaphore(0)
    senders = [
        threading.Thread(target=send, args=(options.port, period, end, said))
        for _ in range(options.connections)
    ]
    for sender in senders:
        sender.start()
    for _ in senders:
        said.acquire(timeout=30)
    print("ready", flush=True)
    for sender in senders:
        sender.join()


if __name__ == "__main__":
    main()
