"""A PACS that never gives one of its films: the film is rejected with a reason, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.cxr.ids import hash_id
from components.cxr.pacs import Pacs
from components.cxr.pacs_search import search_pacs
from components.preprocess.collect import read_rejects
from pipeline.synthetic import Settings, generate
from tests.components.preprocess.steps import refusal, rows_of, run
from tests.dicomweb_peer import Peer, holding, peer
from tests.pacs import orthanc_of_a_token

__all__ = ["peer"]

NAMES = [f"1.{study}/1.9/1.{study}.{film}" for study in range(4) for film in range(2)]


@pytest.fixture
def films(dicom_bytes: Callable[..., bytes]) -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    return {name: dicom_bytes(rng.integers(0, 4096, (40, 40)).astype(np.uint16), bits_stored=12) for name in NAMES}


def values(peer: Peer, folder: Path, num_workers: int) -> dict[str, dict[str, Any]]:
    data = {"adapter": "dicomweb", "server": {"url": peer.address.url}, "found": str(folder / "found.json")}
    step = {"pixels": {"size": 16}, "num_workers": num_workers, "max_reject_fraction": 0.5, "images_per_shard": 2}
    return {"data": data, "preprocess": step}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_film_that_never_comes_is_rejected(
    peer: Peer, films: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str], num_workers: int
) -> None:
    bad = {NAMES[0], NAMES[5]}
    peer.replies = holding(films, broken=dict.fromkeys(bad, (500, "text/plain", b"")))
    loaded = run(values(peer, tmp_path, num_workers), tmp_path / "root")
    kept = {hash_id("image", name.split("/")[2]) for name in NAMES if name not in bad}
    assert set(rows_of(loaded)) == kept
    rejects = read_rejects(loaded).to_pylist()
    assert {row["image_id"] for row in rejects} == {hash_id("image", name.split("/")[2]) for name in bad}
    assert {(row["code"], row["reason"]) for row in rejects} == {
        ("damaged", "the PACS does not give this film, while it gives another: 500 Internal Server Error, for 1.2 s")
    }
    assert loaded.manifest.num_rejects == 2
    said = "".join(capfd.readouterr())
    assert "pacs: 4/4 studies searched" in said
    assert not any(uid in said for name in NAMES for uid in name.split("/")[2:])


def test_a_server_that_gives_no_film_stops_the_run(peer: Peer, films: dict[str, bytes], tmp_path: Path) -> None:
    peer.replies = holding(films, broken=dict.fromkeys(NAMES, (500, "text/plain", b"")))
    assert "the PACS does not answer" in refusal(values(peer, tmp_path, 0), tmp_path / "root")
    peer.replies = holding(films)
    assert len(rows_of(run(values(peer, tmp_path, 0), tmp_path / "root"))) == len(NAMES)


def test_a_study_whose_films_are_not_listed_is_left_out_and_counted(
    peer: Peer, films: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.replies = holding(films, broken={"1.2": (500, "text/plain", b"")})
    loaded = run(values(peer, tmp_path, 0), tmp_path / "root")
    assert set(rows_of(loaded)) == {hash_id("image", name.split("/")[2]) for name in NAMES if name[:3] != "1.2"}
    assert loaded.manifest.left_out == {"studies whose films the PACS did not list": 1}
    assert loaded.manifest.num_rejects == 0
    assert "pacs: left out: 1 of 4 studies, as it does not list their films" in capsys.readouterr().out
    peer.replies = holding(films)
    (tmp_path / "found.json").unlink()
    again = run(values(peer, tmp_path, 0), tmp_path / "root")
    assert (len(rows_of(again)), again.manifest.left_out) == (len(NAMES), {})


@pytest.mark.orthanc
def test_a_film_whose_file_a_real_pacs_has_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_PACS_TOKEN", "a-token")
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "8")  # a quarter of it for an answer, on a busy machine
    generate(tmp_path / "in", num_studies=3, settings=Settings(), size=64)
    (tmp_path / "server").mkdir()
    with orthanc_of_a_token(tmp_path / "server", "a-token") as orthanc:
        num_films = orthanc.fill(tmp_path / "in" / "files")
        data = {"adapter": "dicomweb", "server": {"url": orthanc.dicomweb}, "found": str(tmp_path / "found.json")}
        step = {"pixels": {"size": 16}, "num_workers": 0, "max_reject_fraction": 0.5}
        search_pacs(Pacs.of(data, where="data"))
        stored = [path for path in (tmp_path / "server" / "storage").rglob("*") if is_film(path)]
        assert len(stored) == num_films
        stored[0].unlink()
        loaded = run({"data": data, "preprocess": step}, tmp_path / "root")
    (reject,) = read_rejects(loaded).to_pylist()
    assert (reject["code"], len(rows_of(loaded))) == ("damaged", num_films - 1)
    assert "500 Internal Server Error" in reject["reason"]


def is_film(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"
