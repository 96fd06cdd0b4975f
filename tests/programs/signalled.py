"""Answers each signal by a line, while threads come and go."""

import signal
import threading
import time


def work():
    while True:
        threading.Thread(target=lambda: [{} for _ in range(100)]).start()
        time.sleep(0.001)


def main():
    for number in (signal.SIGUSR1, signal.SIGRTMIN + 3):
        signal.signal(number, lambda *_: print("got it", flush=True))
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    while True:
        [[number] for number in range(1000)]


if __name__ == "__main__":
    main()
