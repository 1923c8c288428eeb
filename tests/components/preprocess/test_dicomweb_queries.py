"""What is found at a real PACS that wants a bearer token, by accession numbers, UIDs, body parts and dates."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from components.cxr.errors import UserError
from components.cxr.ids import IdKey
from components.cxr.pacs import Pacs
from components.cxr.pacs_search import PacsFilms, search_pacs
from components.preprocess.adapters import read_source
from components.preprocess.config import parse_data
from tests.components.serve.routing import put_studies
from tests.pacs import Orthanc, orthanc_of_a_token

pytestmark = pytest.mark.orthanc

TOKEN = "geheim-0123456789.abc_~+/="
STUDIES: list[dict[str, Any]] = [
    {"AccessionNumber": "A17", "StudyDate": "20240101", "BodyPartExamined": "CHEST"},
    {"AccessionNumber": "a17", "StudyDate": "20240630", "BodyPartExamined": "Chest"},
    {"AccessionNumber": "A170", "StudyDate": "20241231", "BodyPartExamined": "ABDOMEN"},
    {"AccessionNumber": "B/2", "StudyDate": "20250101"},
    {"AccessionNumber": "007", "StudyDate": "20250102", "BodyPartExamined": "chest", "Modality": "CR"},
]


@pytest.fixture(scope="module")
def server(dicom_bytes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Five studies; the last has a hand and a mammogram, too."""
    films = tmp_path_factory.mktemp("films")
    with warnings.catch_warnings(action="ignore"):  # PACS hold small letters, though the standard knows capitals alone
        for number, tags in enumerate(STUDIES):
            put_studies(films, dicom_bytes, range(number, number + 1), **tags)
        for name, tags in {"hand": {"BodyPartExamined": "HAND"}, "breast": {"Modality": "MG"}}.items():
            uids = {f"{kind}InstanceUID": generate_uid(entropy_srcs=[name, kind]) for kind in ("Series", "SOP")}
            put_studies(films / name, dicom_bytes, range(4, 5), **{**STUDIES[4], **tags, **uids})
    with orthanc_of_a_token(tmp_path_factory.mktemp("orthanc"), TOKEN) as server:
        assert server.fill(films) == 7
        yield server


@pytest.fixture
def values(server: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CXRFLOW_PACS_TOKEN", TOKEN)
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "4")
    return {"adapter": "dicomweb", "server": {"url": server.dicomweb}, "found": str(tmp_path / "found.json")}


QUERIES: dict[str, tuple[dict[str, Any], dict[int, int]]] = {
    "all": ({}, {0: 1, 1: 1, 2: 1, 3: 1, 4: 2}),
    "numbers": ({"accession_numbers": "A17\r\n\n007\nA17\nX9\n"}, {0: 1, 4: 2}),
    "numbers and dates": ({"accession_numbers": "A17\n007\nX9\n", "study_dates": "-20241231"}, {0: 1}),
    "uids": ({"study_uids": "{1}\n{4}\n1.2.3\n"}, {1: 1, 4: 2}),
    "uids, part, modality": ({"study_uids": "{1}\n{4}\n", "body_parts": ["ChEsT"], "modalities": ["CR"]}, {4: 1}),
    "part": ({"body_parts": ["chest"]}, {0: 1, 1: 1, 4: 1}),
    "parts": ({"body_parts": ["hand", "Abdomen"]}, {2: 1, 4: 1}),
    "modality": ({"modalities": ["MG"]}, {4: 1}),
    "day": ({"study_dates": 20240630}, {1: 1}),
    "range": ({"study_dates": "20240630-20241231"}, {1: 1, 2: 1}),
    "from": ({"study_dates": "20241231-"}, {2: 1, 3: 1, 4: 2}),
    "until": ({"study_dates": "-20240630"}, {0: 1, 1: 1}),
}
"""Fields of a query, lists as their text with the studies' UIDs by number; and the films of the studies found."""


@pytest.mark.parametrize("name", QUERIES)
def test_what_a_query_finds(
    values: dict[str, Any], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    query, found = QUERIES[name]
    uids = [str(generate_uid(entropy_srcs=["study", str(number)])) for number in range(len(STUDIES))]
    values["query"] = dict(query)
    for kind in {"accession_numbers", "study_uids"} & query.keys():
        (tmp_path / kind).write_text(query[kind].format(*uids), newline="")
        values["query"][kind] = str(tmp_path / kind)
    studies = search_pacs(Pacs.of(values, where="data"))
    assert {uids.index(each.study): len(each.films) for each in studies} == found
    assert {each.patient for each in studies} == {f"P{number}" for number in found}
    said = {"numbers": "1 of 3", "numbers and dates": "2 of 3", "uids": "1 of 3"}.get(name)
    assert capsys.readouterr().out == (f"pacs: {said} ids of the list find no study\n" if said else "")


def test_a_token_lets_in_and_another_is_refused_unseen(
    values: dict[str, Any], server: Orthanc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = read_source(parse_data(values), key=IdKey(None))
    film = source.studies[0].films[0]
    assert film.image_id.encode() in source.films.open().read(film.path).data
    monkeypatch.setenv("OWN_TOKEN", TOKEN)
    monkeypatch.setenv("CXRFLOW_PACS_TOKEN", "geheim")
    other = Pacs.of(values, where="data").server.model_copy(update={"token_variable": "OWN_TOKEN"})
    assert film.image_id.encode() in PacsFilms(other).read(film.path).data
    environments = (
        {"CXRFLOW_PACS_TOKEN": "geheim"},
        {"CXRFLOW_PACS_TOKEN": f"{TOKEN}x"},
        {"CXRFLOW_PACS_TOKEN": ""},
        {"CXRFLOW_PACS_TOKEN": "", "CXRFLOW_PACS_USER": "cxrflow", "CXRFLOW_PACS_PASSWORD": TOKEN},
    )
    Path(values["found"]).unlink()
    for environment in environments:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for refused in (lambda: read_source(parse_data(values), key=IdKey(None)), lambda: _read(values, film.path)):
            with pytest.raises(UserError, match="the PACS refuses the credentials") as caught:
                refused()
            assert "geheim" not in str(caught.value)
    assert "geheim" not in caplog.text
    assert not Path(values["found"]).exists()


def _read(values: dict[str, Any], path: str) -> bytes:
    return PacsFilms(Pacs.of(values, where="data").server).read(path).data
