"""Sends requests to the FastAPI program on loopback at a steady rate, until it is gone or time is over."""

import argparse
import http.client
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=600.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=600.0, help="end after this long")
    options = parser.parse_args()

    connection = http.client.HTTPConnection("127.0.0.1", options.port, timeout=10)
    number = 0
    due = time.monotonic()
    end = due + options.seconds
    while due < end:
        path = f"/search?text=query+number+{number}" if number % 2 else f"/items/{number}"
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        except OSError:
            return
        if answer.status != 200:
            raise SystemExit(f"{path}: status {answer.status}")
        number += 1
        if number == 200:
            print("ready", flush=True)
        due += 1.0 / options.rate
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)


if __name__ == "__main__":
    main()
