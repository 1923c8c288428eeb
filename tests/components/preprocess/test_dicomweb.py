"""Films from a PACS: the rows of the folder that it was filled from, kills, what vanishes, and refused credentials."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pydicom
import pytest
import yaml

from components.cxr.ids import IdKey, hash_id
from components.cxr.storage.storage import Root
from components.preprocess.adapters import read_source
from components.preprocess.collect import collect, read_rejects
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from pipeline.synthetic import Settings, generate
from tests.components.preprocess.steps import Values, refusal, rows_of, run
from tests.pacs import Orthanc, orthanc

__all__ = ["orthanc"]

pytestmark = pytest.mark.orthanc

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pacs")
    generate(folder, num_studies=4, settings=Settings(), size=64, syntax="jpeg-ls")
    return folder / "files"


@pytest.fixture
def values(orthanc: Orthanc, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Values:
    orthanc.fill(films)
    monkeypatch.setenv("CXRFLOW_PACS_USER", orthanc.user)
    monkeypatch.setenv("CXRFLOW_PACS_PASSWORD", orthanc.password)
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "4")
    data = {"adapter": "dicomweb", "server": {"url": orthanc.dicomweb}, "found": str(tmp_path / "found.json")}
    return {"data": data | {"split": "hash"}, "preprocess": {"pixels": {"size": 16}, "num_workers": 0}}


def test_the_rows_are_those_of_the_folder(values: Values, films: Path, tmp_path: Path) -> None:
    folder = {"adapter": "dicom-folder", "dir": str(films), "split": "hash"}
    expected = rows_of(run({**values, "data": folder}, tmp_path / "folder"))
    values["preprocess"]["num_workers"] = 1
    found = rows_of(run(values, tmp_path / "pacs"))
    for row in (*expected.values(), *found.values()):
        del row["source_hash"]  # of a file's name here, of three UIDs there
    assert found == expected
    assert len(found) >= 4


def test_a_film_comes_as_it_is_stored(values: Values, films: Path) -> None:
    source = read_source(parse_data(values["data"]), key=IdKey(None))
    film = source.studies[0].films[0]
    stored = {pydicom.dcmread(path).SOPInstanceUID: path for path in films.rglob("*.dcm")}
    opened = pydicom.dcmread(stored[film.image_id])
    got = source.films.open().read(film.path).data
    assert opened.file_meta.TransferSyntaxUID.encode() in got
    assert opened.PixelData in got


def test_a_search_that_finds_nothing_and_a_list_with_a_header(values: Values, tmp_path: Path) -> None:
    values["data"]["query"] = {"modalities": ["MG"]}
    assert "the search finds no films" in refusal(values, tmp_path / "none")
    assert not Path(values["data"]["found"]).exists()
    (tmp_path / "uids.txt").write_text("StudyInstanceUID\n1.2.3\n")
    values["data"]["query"] = {"study_uids": str(tmp_path / "uids.txt")}
    assert "found 1 of 2 lines" in refusal(values, tmp_path / "none")


def test_a_study_that_vanishes_is_rejected_and_the_rest_goes_on(
    values: Values, orthanc: Orthanc, films: Path, tmp_path: Path
) -> None:
    values["preprocess"] |= {"max_reject_fraction": 0.9, "images_per_shard": 1}
    data = parse_data(values["data"])
    step = PreprocessConfig.parse(values["preprocess"], where="preprocess")
    root = Root(tmp_path / "root")
    run_partition(data, step, root=root, partition=0, num_partitions=2)
    found = json.loads(Path(values["data"]["found"]).read_text())["studies"]
    kept = {row["study_id"] for row in _rows(root)}
    gone = next(each for each in found if hash_id("study", each["study"]) not in kept)
    orthanc.delete_study(gone["study"])
    run_partition(data, step, root=root, partition=1, num_partitions=2)
    loaded = collect(data, step, root=root)
    rejects = read_rejects(loaded).to_pylist()
    assert {row["image_id"] for row in rejects} == {hash_id("image", film.split("/")[2]) for film in gone["films"]}
    assert {row["reason"] for row in rejects} == {"gone since the films were listed"}
    assert hash_id("study", gone["study"]) not in rows_of(loaded, by="study_id")
    assert len(rows_of(loaded, by="study_id")) == len(found) - 1


def test_killed_and_run_again(values: Values, orthanc: Orthanc, tmp_path: Path) -> None:
    """A study that came meanwhile changes nothing; finished shards are kept."""
    values["preprocess"]["images_per_shard"] = 1
    expected = rows_of(run(values, tmp_path / "whole"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": str(tmp_path / "root"), **values}))
    command = [sys.executable, "-m", "components.preprocess", "--config", str(config)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (done := list(tmp_path.glob("root/data/*/parts/*.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(done) < len(expected)
    generate(tmp_path / "more", num_studies=1, settings=Settings(seed=99), size=64)
    orthanc.fill(tmp_path / "more")
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "shards are already in" in again.stdout
    loaded = collect(
        parse_data(values["data"]),
        PreprocessConfig.parse(values["preprocess"], where="preprocess"),
        root=Root(tmp_path / "root"),
    )
    assert rows_of(loaded) == expected


def test_refused_credentials_are_told_without_them(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CXRFLOW_PACS_PASSWORD", "hunter-2-secret")
    message = refusal(values, tmp_path / "root")
    assert "the PACS refuses the credentials" in message
    assert "401" in message
    monkeypatch.setenv("CXRFLOW_PACS_TOKEN", "hunter-3-secret")
    both = refusal(values, tmp_path / "root")
    assert "not clear" in both
    message += both
    for name in ("CXRFLOW_PACS_USER", "CXRFLOW_PACS_PASSWORD"):
        monkeypatch.delenv(name)
    message += refusal(values, tmp_path / "root")
    assert "hunter" not in message + caplog.text
    assert not Path(values["data"]["found"]).exists()


def test_the_password_and_ids_are_in_no_log(
    values: Values, orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.INFO)
    run(values, tmp_path / "root")
    told = caplog.text + "".join(capfd.readouterr())
    found = json.loads(Path(values["data"]["found"]).read_text())["studies"]
    assert orthanc.password not in told
    assert not any(each["study"] in told or each["patient"] in told for each in found)
    with_files = [path.read_bytes() for path in tmp_path.rglob("root/**/*") if path.is_file()]
    assert not any(orthanc.password.encode() in data for data in with_files)


def test_no_dicomweb_server(values: Values, orthanc: Orthanc, tmp_path: Path) -> None:
    values["data"]["server"] = {"url": f"{orthanc.root}/nothing"}
    assert "no DICOMweb server answers" in refusal(values, tmp_path / "root")
    values["data"]["server"] = {"url": f"{orthanc.root}/app"}
    assert "no DICOMweb server answers" in refusal(values, tmp_path / "root")
    values["data"]["server"] = {"url": "http://127.0.0.1:9/dicom-web"}
    assert "the PACS does not answer" in refusal(values, tmp_path / "root")


def test_a_file_of_another_search_is_refused(values: Values, tmp_path: Path) -> None:
    run(values, tmp_path / "root")
    values["data"]["query"] = {"study_dates": "19000101-"}
    assert "another search" in refusal(values, tmp_path / "other")


def _rows(root: Root) -> list[dict[str, Any]]:
    storage = root.storage
    names = [name for name in storage.sizes() if "/shards/" in name]
    return [row for name in names for row in pq.read_table(io.BytesIO(storage.read(name).data)).to_pylist()]
