"""A travel agency that opens a web session for each booking's token, in a pool that never shrinks."""

import http.cookiejar
import ssl
import urllib.request

import harness

TLS = ssl.create_default_context()

pool = {}


class Session:
    """A client of the airlines' service, with the cookies of one customer."""

    def __init__(self, token):
        self.cookies = http.cookiejar.CookieJar()  # LEAK
        cookies = urllib.request.HTTPCookieProcessor(self.cookies)  # LEAK
        tls = urllib.request.HTTPSHandler(context=TLS)  # LEAK
        self.opener = urllib.request.build_opener(cookies, tls)  # LEAK
        self.opener.addheaders = [("Authorization", f"Bearer {token}")]  # LEAK


def offers(number):
    """Flights, the cheapest first."""
    flights = [{"flight": f"XY{(number + n) % 9000}", "fare": (number * n) % 700 / 3} for n in range(400)]
    return sorted(flights, key=lambda flight: flight["fare"])


def session_of(token):
    if token not in pool:
        pool[token] = Session(token)  # LEAK
    return pool[token]


def main():
    options = harness.arguments(__doc__, rate=200)

    def handle(number):
        offers(number)
        if number % 15:
            return
        token = f"{number * 2654435761 % 2**32:08x}"  # LEAK
        if options.clean:
            Session(token)
        else:
            session_of(token)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
