"""Answers that a good server never gives: cut off, of another kind, too late, and pages that do not count."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.cxr.dicomweb import Dicomweb
from components.cxr.dicomweb_server import DicomwebServer, authorization
from components.cxr.errors import UserError
from components.cxr.pacs import Pacs
from components.cxr.pacs_search import search_pacs

FILE = b"\0" * 128 + b"DICM\r\n--b\r\n" + bytes(range(256)) * 20
WHOLE = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + FILE + b"\r\n--b--\r\n"
MULTIPART = 'multipart/related; type="application/dicom"; boundary="b"'
Reply = tuple[int, str, bytes]


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

    def client(self) -> Dicomweb:
        return Dicomweb(DicomwebServer(url=f"http://127.0.0.1:{self.server.server_port}/dicom-web"))


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "1.2")
    peer = Peer()
    yield peer
    peer.server.shutdown()
    peer.server.server_close()


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.line


def test_a_film_that_was_cut_off_is_asked_for_again(peer: Peer) -> None:
    peer.replies = lambda n, _: (200, MULTIPART, WHOLE[:-40] if n == 1 else WHOLE)
    assert peer.client().retrieve("1.2", "1.3", "1.4") == FILE
    assert len(peer.sent) == 2
    peer.replies = lambda *_: (200, MULTIPART, WHOLE[:-40])
    assert "[pacs-fails]" in (line := refused(lambda: peer.client().retrieve("1.2", "1.3", "1.4")))
    assert "1.4" not in line


def test_a_busy_server_is_asked_again_until_the_deadline(peer: Peer) -> None:
    peer.replies = lambda n, _: (503, "text/plain", b"") if n < 3 else (200, MULTIPART, WHOLE)
    assert peer.client().retrieve("1.2", "1.3", "1.4") == FILE
    peer.wait_s = 5.0
    start = time.monotonic()
    assert "[pacs-fails]" in refused(lambda: peer.client().retrieve("1.2", "1.3", "1.4"))
    assert time.monotonic() - start < 4


def test_what_is_gone_is_no_mistake_of_the_users(peer: Peer) -> None:
    with pytest.raises(FileNotFoundError, match="has it no more"):
        peer.client().retrieve("1.2", "1.3", "1.4")
    assert list(peer.client().series("1.2")) == []
    assert "[not-dicomweb]" in refused(lambda: list(peer.client().studies({})))


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_is_no_dicomweb(peer: Peer, kind: str) -> None:
    peer.replies = lambda *_: (200, kind, b"<html>Doe^Jane</html>")
    for call in (lambda: list(peer.client().studies({})), lambda: peer.client().retrieve("1", "2", "3")):
        assert "[not-dicomweb]" in (line := refused(call))
        assert "Doe" not in line


def test_a_server_whose_pages_do_not_count_ends(peer: Peer) -> None:
    study = [{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]
    peer.replies = lambda *_: (200, "application/dicom+json", json.dumps(study).encode())
    assert len(list(peer.client().studies({}))) == 1
    assert len(peer.sent) == 2
    study[0]["0020000D"]["Value"] = ["../../admin"]  # type: ignore[index]
    assert "[not-dicomweb]" in (line := refused(lambda: list(peer.client().studies({}))))
    assert "admin" not in line


def test_a_server_that_does_not_filter_finds_what_is_listed_alone(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def study(uid: str, number: str, part: str) -> dict[str, object]:
        values = {"0020000D": uid, "0020000E": "1.9", "00080018": "1.8"}
        values |= {"00080050": number, "00080060": "DX", "00180015": part}
        return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}

    studies = [study("1.1", "A17", "Chest"), study("1.2", "a17", "Chest"), study("1.3", "B", "Hand")]

    def replies(_: int, path: str) -> Reply:
        found = [each for each in studies if f"/{each['0020000D']['Value'][0]}/" in path] or studies  # type: ignore[index]
        return 200, "application/dicom+json", json.dumps(found).encode()

    peer.replies = replies
    (tmp_path / "list").write_text("A17\nB\nC\n")
    url = f"http://127.0.0.1:{peer.server.server_port}/dicom-web"
    query = {"accession_numbers": str(tmp_path / "list"), "body_parts": ["cHEST"]}
    pacs = Pacs.parse({"server": {"url": url}, "query": query, "found": str(tmp_path / "found.json")}, where="data")
    assert [(each.study, each.films) for each in search_pacs(pacs)] == [("1.1", ("1.1/1.9/1.8",))]
    assert capsys.readouterr().out == "pacs: 1 of 3 ids of the list find no study\n"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_told_at_once_and_never_shown(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("CXRFLOW_PACS_TOKEN", "secret-token")
    peer.replies = lambda *_: (status, "text/plain", b"secret-token")
    assert "[pacs-refused]" in (line := refused(lambda: list(peer.client().studies({}))))
    assert "secret" not in line
    assert [auth for _, auth in peer.sent] == ["Bearer secret-token"]


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        ({}, None),
        ({"TOKEN": "abc.def"}, "Bearer abc.def"),
        ({"USER": "reader", "PASSWORD": "p:ä"}, "Basic cmVhZGVyOnA6w6Q="),
        ({"TOKEN": "abc", "USER": "reader", "PASSWORD": "p"}, "CXRFLOW_PACS_TOKEN, CXRFLOW_PACS_USER"),
        ({"USER": "reader"}, "found CXRFLOW_PACS_USER"),
        ({"PASSWORD": "geheim"}, "found CXRFLOW_PACS_PASSWORD"),
        ({"TOKEN": "geheim\nX-Other: 1"}, "characters that cannot be sent"),
        ({"TOKEN": "geheim-ü"}, "characters that cannot be sent"),
    ],
)  # fmt: skip
def test_a_token_or_a_user_with_a_password_is_sent_and_nothing_unclear(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], sent: str | None
) -> None:
    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.setenv(f"CXRFLOW_PACS_{name}", values.get(name, ""))
    if sent is None or sent.startswith(("Bearer", "Basic")):
        assert authorization() == sent
        return
    with pytest.raises(UserError) as caught:
        authorization()
    assert caught.value.code == "bad-credentials"
    assert sent in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "secret-token"])
def test_what_netrc_holds_is_not_sent(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("CXRFLOW_PACS_TOKEN", token)
    peer.replies = lambda *_: (401, "text/plain", b"")
    refused(lambda: list(peer.client().studies({})))
    assert [auth for _, auth in peer.sent] == [f"Bearer {token}" if token else None]


def test_credentials_are_never_in_the_address() -> None:
    for url in ("https://u:p@pacs/dicom-web", "ftp://pacs", "https://pacs/?key=1"):
        with pytest.raises(UserError):
            DicomwebServer.parse({"url": url}, where="data.server")
