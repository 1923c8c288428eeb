"""A process that takes bytes and says so: what sending a film over loopback costs without any server."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
def sink(num_bytes: int) -> Iterator[Sink]:
    """Within, a process takes `num_bytes` at a time."""
    command = [sys.executable, "-m", "benchmarks.serve_sink", str(num_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield Sink(connection)  # the process ends with the connection


def main() -> None:
    """Take the bytes of one connection again and again, and keep none."""
    num_bytes = int(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
        left, room = num_bytes, bytearray(1 << 18)
        while taken := connection.recv_into(room, min(left, len(room))):
            left -= taken
            if not left:
                connection.sendall(_TAKEN)
                left = num_bytes


if __name__ == "__main__":
    main()
