"""A ticket shop that holds a reservation for 10 s for each guest.

Healthy: whatever is older is dropped at the next request, so about 2,000 live once the first have expired.
"""

import time

import harness

LIFETIME = 10.0

reservations = {}


class Reservation:
    def __init__(self, number, seats, expires):
        self.code = f"reservation {number}"
        self.seats = seats
        self.mail = f"Your seats until {expires:.0f}: {seats}. " * 6
        self.expires = expires


def expire(now):
    """Reservations lie in the order of their expiry, since all live equally long."""
    while reservations:
        code, oldest = next(iter(reservations.items()))
        if oldest.expires > now:
            break
        del reservations[code]


def best_seats(number):
    """Rates the seats of the hall, all but three of which are dropped."""
    rated = [((seat * number) % 101 / 7.0, f"row {seat // 20}, seat {seat % 20}") for seat in range(700)]
    return [seat for _, seat in sorted(rated)[:3]]


def reserve(number, now):
    reservation = Reservation(number, best_seats(number), now + LIFETIME)
    reservations[reservation.code] = reservation


def main():
    options = harness.arguments(__doc__, rate=200)

    def handle(number):
        now = time.monotonic()
        expire(now)
        reserve(number, now)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
