"""A client of its own that asks /healthz while the server's benchmark runs; it imports nothing that takes time."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

__all__ = ["probe"]

EVERY_S = 0.02


def probe(address: str) -> list[float]:
    """Seconds of each answer, asked for every 20 ms, from a line on stdin until its end."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=600)
    ended = threading.Event()
    seconds: list[float] = []
    print("ready", flush=True)
    sys.stdin.readline()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    while not ended.is_set():
        start = time.perf_counter()
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        connection.getresponse().read()
        seconds.append(time.perf_counter() - start)
        ended.wait(EVERY_S)
    return seconds


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])))
