"""A DICOMweb server that answers as a test wants, by HTTP: what no good server does."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.cxr.dicomweb import Dicomweb
from components.cxr.dicomweb_server import DicomwebServer

__all__ = ["FILE", "MULTIPART", "WHOLE", "Peer", "Reply", "element", "holding", "multipart", "peer"]

FILE = b"\0" * 128 + b"DICM\r\n--b\r\n" + bytes(range(256)) * 20
MULTIPART = 'multipart/related; type="application/dicom"; boundary="b"'
Reply = tuple[int, str, bytes]


def multipart(file: bytes) -> bytes:
    """A film as WADO-RS sends it, under MULTIPART."""
    return b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--b--\r\n"


WHOLE = multipart(FILE)


def element(values: Mapping[str, str]) -> dict[str, object]:
    """DICOM JSON of values by tag."""
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}


def holding(films: Mapping[str, bytes], *, broken: Mapping[str, Reply] | None = None) -> Callable[[int, str], Reply]:
    """The replies of a server with these films (DX, by `study/series/instance`).

    Args:
        broken: what it answers in place of a film, or of the list of what is in a `study` or `study/series`.
    """

    def reply(_: int, path: str) -> Reply:
        asked = re.sub(r"/(studies|series|instances)(?=/|$|\?)", "/", path.partition("/dicom-web")[2].partition("?")[0])
        name = "/".join(part for part in asked.split("/") if part)
        if broken and name in broken:
            return broken[name]
        if name.count("/") == 2:
            return 200, MULTIPART, multipart(films[name])
        found = []
        for film in films:
            if film.startswith(name):
                study, series, instance = film.split("/")
                tags = {"0020000D": study, "0020000E": series, "00080018": instance, "00100020": f"p{study}"}
                found.append(element(tags | {"00080060": "DX"}))
        return 200, "application/dicom+json", json.dumps(found).encode()

    return reply


class Peer:
    """A server that answers as a test wants, and keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: Callable[[int, str], Reply] = lambda *_: (404, "text/plain", b"")
        self.sent: list[tuple[str, str | None]] = []
        self.wait_s = 0.0
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                peer.sent.append((self.path, self.headers.get("Authorization")))
                time.sleep(peer.wait_s)
                status, kind, body = peer.replies(len(peer.sent), self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> DicomwebServer:
        return DicomwebServer(url=f"http://127.0.0.1:{self.server.server_port}/dicom-web")

    def client(self) -> Dicomweb:
        return Dicomweb(self.address)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "1.2")
    peer = Peer()
    yield peer
    peer.server.shutdown()
    peer.server.server_close()
