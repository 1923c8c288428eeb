"""What containers are given of this machine; no Docker is needed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.config import CONFIGS, load_pipeline_config
from pipeline.docker import _environment, _mounts

PACS = "data={{adapter: dicomweb, server: {{url: 'http://pacs', token_variable: OURS}}, found: {found}}}"


def mounted(*overrides: str) -> dict[str, bool]:
    """Whether it is read only, by the path of each mount."""
    mounts = _mounts(load_pipeline_config(CONFIGS / "demo.yaml", ["evaluate.second_truth=null", *overrides]))
    assert all(mount["Source"] == mount["Target"] for mount in mounts)
    return {mount["Source"]: mount["ReadOnly"] for mount in mounts}


def test_archives_and_lists_of_splits_are_mounted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("films/a.png", b"")
    for name in ("table.csv", "test.txt"):
        (tmp_path / name).write_text("")
    data = f"table: {tmp_path}/table.csv, image_dir: {tmp_path}/films.zip/films"
    lists = f"split_lists: {{test: {tmp_path}/test.txt, train: gs://bucket/train.txt}}"
    more = f"unlabeled: [{{dir: {tmp_path}/films.zip/films}}]"
    found = mounted(f"root={tmp_path}/root", f"data={{adapter: csv, {data}, {lists}, {more}}}")
    assert found == {
        f"{tmp_path}/table.csv": True,
        f"{tmp_path}/films.zip": True,
        f"{tmp_path}/test.txt": True,
        f"{tmp_path}/root": False,
    }


def test_what_a_pacs_search_finds_outlives_its_container(tmp_path: Path) -> None:
    found = mounted(f"root={tmp_path}/root", PACS.format(found=tmp_path / "new" / "found.json"))
    assert found == {f"{tmp_path}/root": False, f"{tmp_path}/new": False}
    assert (tmp_path / "new").is_dir(), "Docker would make it for root alone"


def test_steps_get_the_settings_that_they_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"MLFLOW_REGISTRY_URI": "a", "MLFLOW_WORKSPACE": "b", "OURS": "c", "CXRFLOW_CACHE_GB": "2", "OTHER": "d"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    config = load_pipeline_config(CONFIGS / "demo.yaml", [PACS.format(found=tmp_path / "found.json")])
    assert given.items() - _environment(config).items() == {("OTHER", "d")}
