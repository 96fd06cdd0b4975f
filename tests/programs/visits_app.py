"""An application for servers that have workers: WSGI for gunicorn (which forks them), ASGI for uvicorn (which spawns
them). Each request keeps what it was asked.

Run as a program it says `ready PORT` and becomes the server, with two workers; `load.py PORT` sends it requests.
"""
# domain: pymalloc

import argparse
import json
import os
import socket
import sys

visits = []


class Visit:
    def __init__(self, query):
        self.words = query.split("+")  # LEAK
        self.counts = [len(word) * 1000 for word in self.words]  # LEAK


def answer(query):
    visits.append(Visit(query))  # LEAK
    found = [{"rank": n, "score": n / 7, "title": f"{query} {n}"} for n in range(20)]
    return json.dumps({"query": query, "found": found}).encode()


def wsgi(environ, start_response):
    body = answer(environ["QUERY_STRING"] or environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = answer(scope["query_string"].decode() or scope["path"])
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["gunicorn", "uvicorn"])
    server = parser.parse_args().server

    listener = socket.create_server(("127.0.0.1", 0))
    # What is accepted inherits it; a server that is handed a descriptor does not know that it is TCP.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.set_inheritable(True)
    handed = listener.fileno()
    arguments = {
        "gunicorn": ["--bind", f"fd://{handed}", "--log-level", "warning", "visits_app:wsgi"],
        "uvicorn": ["--fd", str(handed), "--log-level", "warning", "visits_app:asgi"],
    }
    # Connections are taken from now on, and wait for the workers.
    print("ready", listener.getsockname()[1], flush=True)
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    os.execv(sys.executable, [sys.executable, "-m", server, "--workers", "2", *arguments[server]])


if __name__ == "__main__":
    main()
