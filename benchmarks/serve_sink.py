"""A process that takes bytes and says so: what sending a film over loopback costs without any server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["Sink", "sink"]

_TAKEN = b"ok"


class Sink:
    """One connection to it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, data: bytes) -> None:
        """Return when all of it was taken."""
        self._socket.sendall(data)
        self._socket.recv(len(_TAKEN))


@contextmanager
def sink(num_bytes: int) -> Iterator[tuple[int, Callable[[], Sink]]]:
    """Within, a process takes `num_bytes` at a time of every connection that the yielded function opens; its id too."""
    command = [sys.executable, "-m", "benchmarks.serve_sink", str(num_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        with ExitStack() as opened:

            def connect() -> Sink:
                connection = opened.enter_context(socket.create_connection(address))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Sink(connection)

            yield process.pid, connect
        assert process.stdin is not None
        process.stdin.close()  # which ends it


def main() -> None:
    """Take the bytes of every connection again and again, and keep none, until stdin ends."""
    num_bytes = int(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_accept, args=(listener, num_bytes), daemon=True).start()
        sys.stdin.read()


def _accept(listener: socket.socket, num_bytes: int) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_take, args=(connection, num_bytes), daemon=True).start()


def _take(connection: socket.socket, num_bytes: int) -> None:
    left, room = num_bytes, bytearray(1 << 18)
    while taken := connection.recv_into(room, min(left, len(room))):
        left -= taken
        if not left:
            connection.sendall(_TAKEN)
            left = num_bytes


if __name__ == "__main__":
    main()
