"""A data set in the formats of other tools, opened by those tools, pixel for pixel; and the page that says how."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.storage.storage import open_storage
from components.preprocess import export as module
from components.preprocess.export import export

if TYPE_CHECKING:
    import datasets

REPOSITORY = Path(__file__).parents[3]
NAMES = {"train": "train", "validate": "validation", "test": "test"}
FORMATS = ("hf", "webdataset", "png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_data: LoadedManifest) -> Path:
    """Each format in a folder of its name."""
    folder = tmp_path_factory.mktemp("made")
    for to in FORMATS:
        export(str(folder / to), to, manifest=tiny_data.storage.uri)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Hugging Face's library, with its caches in a temporary folder and without a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("hf-datasets")))
        datasets.disable_progress_bars()
        yield datasets


def rows_of(data: LoadedManifest, split: str) -> dict[str, dict[str, Any]]:
    tables = [read_shard(data.storage, info) for info in data.manifest.shards_of(split)]
    return {row["image_id"]: row for table in tables for row in table.to_pylist()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_hugging_face(films: datasets.DatasetDict, data: LoadedManifest) -> None:
    assert set(films) == set(NAMES.values())
    for split, name in NAMES.items():
        rows = rows_of(data, split)
        assert len(films[name]) == len(rows)
        for film in films[name]:
            row = rows[film["image_id"]]
            assert film["image"].mode == "L"
            assert np.asarray(film["image"]).tobytes() == row["pixels"]
            for pathology in data.manifest.pathologies:
                assert film[pathology] == {1: 1, 0: 0, -1: 2, None: None}[row[pathology]]
            same = ("study_id", "patient_id", "view_position", "labeled", "age_years", "sex", "text_indication")
            assert {key: film[key] for key in same} == {key: row[key] for key in same}


def test_datasets_opens_the_folder_and_its_parquet_files(made: Path, hub: Any, tiny_data: LoadedManifest) -> None:
    check_hugging_face(hub.load_dataset(str(made / "hf")), tiny_data)
    files = {name: f"{made}/hf/data/{name}-*.parquet" for name in NAMES.values()}
    films = hub.load_dataset("parquet", data_files=files)
    check_hugging_face(films, tiny_data)
    assert isinstance(films["train"].features["image"], hub.Image)
    assert films["train"].features["Edema"].names == ["negative", "positive", "uncertain"]
    streamed = next(iter(hub.load_dataset("parquet", data_files=files, split="test", streaming=True)))
    assert streamed["image"].size == (32, 32)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves its files open
def test_imagefolder_opens_the_png_files(made: Path, hub: Any, tiny_data: LoadedManifest) -> None:
    films = hub.load_dataset("imagefolder", data_dir=str(made / "png"))
    assert {name: len(films[name]) for name in films} == {NAMES[s]: len(rows_of(tiny_data, s)) for s in NAMES}
    rows = rows_of(tiny_data, "validate")
    for film in films["validation"]:
        row = rows[film["image_id"]]
        assert np.asarray(film["image"]).tobytes() == row["pixels"]
        assert film["Edema"] == row["Edema"]
    del films
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_webdataset_opens_the_tar_files(made: Path, tiny_data: LoadedManifest) -> None:
    import webdataset

    for split, name in NAMES.items():
        rows = rows_of(tiny_data, split)
        tars = sorted(str(path) for path in (made / "webdataset").glob(f"{name}-*.tar"))
        assert len(tars) == len(tiny_data.manifest.shards_of(split))
        films = list(webdataset.WebDataset(tars, shardshuffle=False).decode("l8"))
        assert [film["__key__"] for film in films] == list(rows)
        for film in films:
            row = rows[film["__key__"]]
            assert film["png"].tobytes() == row["pixels"]
            assert film["json"]["labels"] == {name: row[name] for name in tiny_data.manifest.pathologies}
            assert film["json"]["text_findings"] == row["text_findings"]
            assert not {"pixels", "source_hash", "split"} & set(film["json"])
    gc.collect()


@pytest.mark.parametrize("to", FORMATS)
def test_killed_and_started_again_it_makes_the_same_files(
    to: Any, made: Path, tmp_path: Path, tiny_data: LoadedManifest
) -> None:
    expected = files_of(made / to)
    command = [sys.executable, "-m", "components.preprocess", "export", str(tmp_path / "out"), "--to", to]
    process = subprocess.Popen([*command, "--manifest", tiny_data.storage.uri], cwd=REPOSITORY, stdout=subprocess.PIPE)
    # Names alone: a file that is being written changes its name between a listing and a reading.
    while sum(len(names) for _, _, names in os.walk(tmp_path)) < 3 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    export(str(tmp_path / "out"), to, manifest=tiny_data.storage.uri)
    assert files_of(tmp_path / "out") == expected


def test_a_finished_export_is_left_alone_and_a_lost_file_made_anew(
    made: Path, tmp_path: Path, tiny_data: LoadedManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(made / "hf", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    export(str(out), "hf", manifest=tiny_data.storage.uri)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "reused" in capsys.readouterr().out
    (out / "data" / "test-00001-of-00002.parquet").unlink()
    export(str(out), "hf", manifest=tiny_data.storage.uri)
    assert files_of(out) == files_of(made / "hf")


@pytest.mark.parametrize("to", FORMATS)
def test_into_a_bucket(to: Any, made: Path, tmp_path: Path, gcs_bucket: str, tiny_data: LoadedManifest) -> None:
    export(f"{gcs_bucket}/films", to, manifest=tiny_data.storage.uri)
    open_storage(f"{gcs_bucket}/films").download_folder(tmp_path)
    assert files_of(tmp_path) == files_of(made / to)


def test_a_folder_with_something_else_is_refused(made: Path, tmp_path: Path, tiny_data: LoadedManifest) -> None:
    out = shutil.copytree(made / "hf", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for folder, found in ((out, "another data set or format"), (tmp_path / "mine", "files of something else")):
        before = files_of(folder)
        with pytest.raises(UserError, match=found):
            export(str(folder), "png", manifest=tiny_data.storage.uri)
        assert files_of(folder) == before
    with pytest.raises(UserError, match=r"cannot write: .*notes\.txt"):
        export(str(tmp_path / "mine" / "notes.txt"), "png", manifest=tiny_data.storage.uri)


def test_one_shard_at_a_time_is_read(
    tmp_path: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def read(*arguments: Any) -> Any:
        events.append(f"{len(list(tmp_path.rglob('*.parquet')))} files")
        return read_shard(*arguments)

    monkeypatch.setattr(module, "read_shard", read)
    export(str(tmp_path / "out"), "hf", manifest=tiny_data.storage.uri)
    assert events == [f"{i} files" for i in range(len(tiny_data.manifest.shards))]


def test_the_pictures_are_png_files(made: Path) -> None:
    table = pq.read_table(next((made / "hf" / "data").glob("train-*")))
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}
    first = table["image"][0].as_py()
    assert Image.open(io.BytesIO(first["bytes"])).format == "PNG"
    assert first["path"] == f"{table['image_id'][0]}.png"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "shards.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split()[1])
def test_the_page_as_printed(block: str, made: Path, tmp_path: Path, tiny_data: LoadedManifest) -> None:
    shutil.copytree(tiny_data.storage.uri, tmp_path / "runs/demo/data/0a/shards")
    (tmp_path / "exports").symlink_to(made)
    program = re.sub(r"\bPleural Effusion\b", "Edema", textwrap.dedent(block))
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "print(" in block:
        assert done.stdout.strip()
