"""Answers that a good server never gives: cut off, of another kind, too late, and pages that do not count."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.cxr.dicomweb import DEADLINE_VARIABLE
from components.cxr.dicomweb_server import DicomwebServer, authorization
from components.cxr.errors import UserError
from components.cxr.pacs import Pacs
from components.cxr.pacs_search import FoundStudy, PacsFilms, search_pacs
from components.cxr.storage.storage import DamagedFileError
from tests.dicomweb_peer import FILE, MULTIPART, WHOLE, Peer, Reply, element, holding, peer

__all__ = ["peer"]


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


@pytest.mark.parametrize("text", ["2m", "0"])
def test_a_wrong_deadline_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(DEADLINE_VARIABLE, text)
    with pytest.raises(UserError, match=f"bad value: CXRFLOW_DICOMWEB_DEADLINE_S; found {text}, expected seconds"):
        PacsFilms(DicomwebServer(url="http://127.0.0.1:9/dicom-web"))


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
        return element(values | {"00080050": number, "00080060": "DX", "00180015": part})

    studies = [study("1.1", "A17", "Chest"), study("1.2", "a17", "Chest"), study("1.3", "B", "Hand")]

    def replies(_: int, path: str) -> Reply:
        found = [each for each in studies if f"/{each['0020000D']['Value'][0]}/" in path] or studies  # type: ignore[index]
        return 200, "application/dicom+json", json.dumps(found).encode()

    peer.replies = replies
    (tmp_path / "list").write_text("A17\nB\nC\n")
    query = {"accession_numbers": str(tmp_path / "list"), "body_parts": ["cHEST"]}
    pacs = Pacs.parse(
        {"server": {"url": peer.address.url}, "query": query, "found": str(tmp_path / "found.json")}, where="data"
    )
    assert [(each.study, each.films) for each in search_pacs(pacs)] == [("1.1", ("1.1/1.9/1.8",))]
    said = capsys.readouterr()
    assert said.out == "pacs: 1 of 3 ids of the list find no study\n"
    searched, found = (line.rpartition(",")[0] for line in said.err.splitlines())
    assert (searched, found) == ("pacs: 3/3 ids of the list searched", "pacs: 2/2 studies searched")


NAMES = ["1.1/1.9/1.8", "1.2/1.9/1.8", "1.3/1.9/1.8"]


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize(
    "reply",
    [
        (500, "text/plain", b"1.9 of Doe"),
        (200, MULTIPART, WHOLE[:-40]),
        (406, "text/plain", b""),
        (200, "text/html", b""),
    ],
)
def test_a_film_that_the_server_never_gives_costs_itself(peer: Peer, bad: int, reply: Reply) -> None:
    peer.replies = holding(dict.fromkeys(NAMES, FILE), broken={NAMES[bad]: reply})
    films = PacsFilms(peer.address)
    for i, name in enumerate(NAMES):
        if i != bad:
            assert films.read(name).data == FILE
            continue
        with pytest.raises(DamagedFileError) as caught:
            films.read(name)
        assert caught.value.__suppress_context__
        assert not any(secret in caught.value.line for secret in ("1.9", "Doe"))


@pytest.mark.parametrize("came", [True, False])
def test_a_server_that_fails_is_no_bad_film(peer: Peer, came: bool) -> None:
    """It is asked once more: for the film that came, else for any other."""
    films = PacsFilms(peer.address)
    peer.replies = holding(dict.fromkeys(NAMES, FILE))
    if came:
        films.read(NAMES[0])
    before = len(peer.sent)
    peer.replies = lambda *_: (503, "text/plain", b"")
    assert "[pacs-fails]" in refused(lambda: films.read(NAMES[1]))
    (more,) = (path for path, _ in peer.sent[before:] if "/studies/1.2/" not in path)
    assert ("/studies/1.1/" in more) == came


def search(peer: Peer, tmp_path: Path, **query: str) -> tuple[FoundStudy, ...]:
    data = {"server": {"url": peer.address.url}, "query": query, "found": str(tmp_path / "found.json")}
    return search_pacs(Pacs.parse(data, where="data"))


@pytest.mark.parametrize("part", ["1.2", "1.2/1.9"])
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((500, "text/plain", b"1.9 of Doe"), "500 Internal Server Error, for 1.2 s"),
        ((400, "text/plain", b""), "400 Bad Request"),
        ((200, "text/html", b"<html>Doe"), "no JSON"),
    ],
)
def test_a_study_whose_films_are_not_listed_costs_itself(
    peer: Peer, part: str, reply: Reply, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.replies = holding(dict.fromkeys(NAMES, FILE), broken={part: reply})
    first = search(peer, tmp_path)
    assert [(each.study, len(each.films), each.unlisted) for each in first] == [
        ("1.1", 1, None),
        ("1.2", 0, said),
        ("1.3", 1, None),
    ]
    told = capsys.readouterr().out
    assert told.startswith("pacs: left out: 1 of 3 studies, as it does not list their films")
    assert told.endswith(f" to ask again): {said}\n")
    peer.replies = lambda *_: (503, "text/plain", b"")
    assert search(peer, tmp_path) == first, "what was found is remembered, with what was not"


def test_two_studies_that_are_not_listed_at_once_are_no_failing_server(peer: Peer, tmp_path: Path) -> None:
    peer.replies = holding(dict.fromkeys(NAMES, FILE), broken=dict.fromkeys(("1.1", "1.2"), (400, "text/plain", b"")))
    assert [each.study for each in search(peer, tmp_path) if each.films] == ["1.3"]


@pytest.mark.parametrize("part", ["/series", "/instances"])
def test_a_server_that_lists_no_films_at_all_stops_the_search(peer: Peer, part: str, tmp_path: Path) -> None:
    whole = holding(dict.fromkeys(NAMES, FILE))
    peer.replies = lambda n, path: (503, "text/plain", b"") if path.partition("?")[0].endswith(part) else whole(n, path)
    assert "[pacs-fails]" in (line := refused(lambda: search(peer, tmp_path)))
    assert "1.9" not in line
    assert not (tmp_path / "found.json").exists()


def test_a_server_that_dies_during_the_search_stops_it(peer: Peer, tmp_path: Path) -> None:
    films = {f"1.{i}/1.9/1.8": FILE for i in range(40)}
    whole = holding(films)
    peer.replies = lambda n, path: (503, "text/plain", b"") if n > 40 else whole(n, path)
    assert "[pacs-fails]" in refused(lambda: search(peer, tmp_path))
    assert not (tmp_path / "found.json").exists()


def test_an_id_that_the_server_does_not_search_for_costs_itself(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = holding(dict.fromkeys(NAMES, FILE))
    peer.replies = lambda n, path: (400, "text/plain", b"") if "StudyInstanceUID=1.2" in path else whole(n, path)
    (tmp_path / "list").write_text("1.1\n1.2\n1.4\n")
    assert [each.study for each in search(peer, tmp_path, study_uids=str(tmp_path / "list"))] == ["1.1"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "pacs: 1 of 3 ids of the list find no study",
        "pacs: left out: 1 ids that it does not search: 400 Bad Request",
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_a_study_that_may_not_be_seen_stops_the_search(peer: Peer, status: int, tmp_path: Path) -> None:
    peer.replies = holding(dict.fromkeys(NAMES, FILE), broken={"1.2": (status, "text/plain", b"")})
    assert "[pacs-refused]" in refused(lambda: search(peer, tmp_path))
    assert not (tmp_path / "found.json").exists()


@pytest.mark.parametrize("status", [401, 403])
def test_a_film_that_may_not_be_seen_stops_the_run(peer: Peer, status: int) -> None:
    films = PacsFilms(peer.address)
    peer.replies = holding(dict.fromkeys(NAMES, FILE), broken={NAMES[1]: (status, "text/plain", b"")})
    films.read(NAMES[0])
    assert "[pacs-refused]" in refused(lambda: films.read(NAMES[1]))


def test_a_film_that_alone_is_asked_for_and_fails_may_be_the_server(peer: Peer) -> None:
    peer.replies = holding({NAMES[0]: FILE}, broken={NAMES[0]: (500, "text/plain", b"")})
    assert "[pacs-fails]" in refused(lambda: PacsFilms(peer.address).read(NAMES[0]))


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
