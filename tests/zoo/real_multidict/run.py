"""A reverse proxy that strips what is meant for one hop only from the headers of each request."""

import harness
from multidict import CIMultiDict

HOP_BY_HOP = ("Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade")


def raw_request(number):
    lines = [f"GET /articles/{number % 500} HTTP/1.1", f"Host: shard{number % 9}.example", "Accept: */*"]
    lines += [f"Cookie: part{part}={number * part:x}" for part in range(90)]
    lines += ["Connection: keep-alive, TE", "Keep-Alive: timeout=5", "TE: trailers"]
    return "\r\n".join(lines)


def split(raw):
    """The headers that go on to the backend, and those that concern this connection alone."""
    target, *lines = raw.split("\r\n")
    pairs = [tuple(line.split(": ", 1)) for line in lines]
    forwarded = CIMultiDict(pair for pair in pairs if pair[0] not in HOP_BY_HOP)
    hop = CIMultiDict([pair for pair in pairs if pair[0] in HOP_BY_HOP])  # LEAK
    return target, forwarded, hop


def keeps_open(hop):
    """Consumes the headers of the connection; what remains would be one that the proxy doesn't know."""
    options = hop.pop("connection", "close").lower().split(", ")
    hop.pop("keep-alive", None)
    trailers = "trailers" in hop.pop("te", "")
    if hop:
        raise ValueError(f"unknown: {', '.join(hop)}")
    return "keep-alive" in options, trailers


def rewrite(target, forwarded):
    forwarded["Via"] = "1.1 gateway"
    cookies = dict(cookie.split("=") for cookie in forwarded.getall("cookie"))
    return "\r\n".join([target, *(f"{name}: {value}" for name, value in forwarded.items())]), cookies


def main():
    options = harness.arguments(__doc__, rate=500)
    kept_open = 0

    def handle(number):
        nonlocal kept_open
        target, forwarded, hop = split(raw_request(number))
        kept_open += keeps_open(hop)[0]
        rewrite(target, forwarded)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
