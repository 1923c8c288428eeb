"""MIMIC-CXR's tables: what is joined, what is kept without labels, report or film, and what is refused."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES
from components.cxr.model.batch import VIEW_INDEX
from tests.components.preprocess.steps import edit, edit_rows, refusal, rows_of, run


class Mimic(Protocol):
    dir: Path
    num_films: int
    unlabeled_study: str
    study_without_report: str
    two_film_study: str

    def film(self, study: str, index: int = 0) -> Path: ...
    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


CHEXPERT, SPLIT = "mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.0.0-split.csv.gz"
RECORDS, METADATA = "cxr-record-list.csv.gz", "mimic-cxr-2.0.0-metadata.csv.gz"


def test_unlabeled_and_reportless_studies_are_kept(mimic: Mimic, tmp_path: Path) -> None:
    by_study = rows_of(run(mimic.values(), tmp_path / "root"), by="study_id")
    unlabeled = by_study[hash_id("study", mimic.unlabeled_study)]
    assert not unlabeled["labeled"]
    assert [unlabeled[name] for name in PATHOLOGIES] == [None] * 14
    silent = by_study[hash_id("study", mimic.study_without_report)]
    assert silent["labeled"]
    assert not any(value for name, value in silent.items() if name.startswith("text_"))


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        ("", None, ["folder is missing or empty", "mimic", "data.dir"]),
        (SPLIT, None, ["table is missing", "mimic-cxr-2.*-split.csv.gz", "Download"]),
        (CHEXPERT, None, ["table is missing", "mimic-cxr-2.*-chexpert.csv.gz"]),
        (
            CHEXPERT,
            b"study_id,Edema\n1,1\n",
            ["lacks a column", "found 2 columns: study_id, Edema", "expected No Finding"],
        ),
        (CHEXPERT, b"study_id\n", ["table is empty", CHEXPERT, "found 0 rows"]),
        (CHEXPERT, b"", ["table is empty", CHEXPERT, "found no header"]),
        (CHEXPERT, b"study_id,Edema\n1\n", ["table has a broken row", "line 2", "found 1 cells, expected 2"]),
        (SPLIT, b"no gzip", ["table is not readable", SPLIT]),
    ],
)
def test_broken_sources(mimic: Mimic, tmp_path: Path, file: str, content: bytes | None, parts: list[str]) -> None:
    path = mimic.dir / file
    if content is not None:
        path.write_bytes(content)
    elif file:
        path.unlink()
    else:
        shutil.rmtree(path)
    message = refusal(mimic.values(), tmp_path / "root")
    for part in parts:
        assert part in message


def test_bad_label_names_file_line_column_and_value(mimic: Mimic, tmp_path: Path) -> None:
    edit(mimic.dir / "mimic-cxr-2.0.0-chexpert.csv", "50000001,0.0", "50000001,2.0")
    message = refusal(mimic.values(), tmp_path / "root")
    assert "chexpert.csv line 3 column No Finding; found '2.0', expected 1, 0, -1 or nothing" in message


def test_unknown_split_and_film_without_split(mimic: Mimic, tmp_path: Path) -> None:
    splits = mimic.dir / "mimic-cxr-2.0.0-split.csv.gz"
    edit(splits, "train", "tuning")
    assert "found 'tuning', expected train, validate, test" in refusal(mimic.values(), tmp_path / "root")
    edit(splits, "tuning", "train")
    edit(splits, "00000001-00000001-0000", "gone")
    assert "1 of 18 films without a split" in refusal(mimic.values(), tmp_path / "root")


def test_patient_in_two_splits_is_named_by_hash(mimic: Mimic, tmp_path: Path) -> None:
    edit(mimic.dir / "mimic-cxr-2.0.0-split.csv.gz", "50000008,10000000,train", "50000008,10000000,test")
    message = refusal(mimic.values(), tmp_path / "root")
    assert f"patient {hash_id('patient', '10000000')} in train and test" in message
    assert "10000000" not in message


def test_other_file_names_of_the_source(mimic: Mimic, tmp_path: Path) -> None:
    """Without record list the metadata names the films; .jpg films of MIMIC-CXR-JPG stand in for absent DICOMs."""
    (mimic.dir / "cxr-record-list.csv.gz").unlink()
    film = mimic.film("50000000")
    _, jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
    film.with_suffix(".jpg").write_bytes(jpeg.tobytes())
    film.unlink()
    loaded = run(mimic.values(), tmp_path / "root")
    assert len(rows_of(loaded)) == 18


def test_a_label_row_that_is_blank_throughout_is_labeled(mimic: Mimic, tmp_path: Path) -> None:
    edit(mimic.dir / CHEXPERT, "50000000,1.0,0.0,-1.0,,1.0,0.0,-1.0,,1.0,0.0,-1.0,,1.0,0.0", "50000000" + "," * 14)
    loaded = run(mimic.values(), tmp_path / "root")
    row = rows_of(loaded, by="study_id")[hash_id("study", "50000000")]
    assert row["labeled"]
    assert [row[name] for name in PATHOLOGIES] == [None] * 14


def test_negbio_and_tables_of_the_newest_version(mimic: Mimic, tmp_path: Path) -> None:
    """2.1.0's tables come before 2.0.0's; the other labeler's table is another source."""
    newer = mimic.dir / CHEXPERT.replace("2.0.0", "2.1.0")
    newer.write_text((mimic.dir / CHEXPERT).read_text().replace("-1.0", "1.0"))
    edit(mimic.dir / CHEXPERT, "50000000,1.0", "50000000,nonsense")
    row = rows_of(run(mimic.values(), tmp_path / "new"), by="study_id")[hash_id("study", "50000000")]
    assert row["Cardiomegaly"] == 1
    (mimic.dir / "mimic-cxr-2.1.0-negbio.csv").write_text(newer.read_text().replace("0.0", "-1.0"))
    values = mimic.values()
    values["data"]["labels"] = "negbio"
    row = rows_of(run(values, tmp_path / "negbio"), by="study_id")[hash_id("study", "50000000")]
    assert row["Enlarged Cardiomediastinum"] == -1


def test_views_of_the_metadata(mimic: Mimic, tmp_path: Path) -> None:
    """LL stays LL in the shard and is a lateral to the model; an empty ViewPosition is the view code's meaning."""
    views = [("AP", ""), ("", "postero-anterior"), ("", "antero-posterior"), ("LL", ""), ("", "left lateral")]
    images = [f"{i:08x}-00000000-0000" for i in range(5)]

    def change(row: dict[str, str]) -> dict[str, str]:
        if row["dicom_id"] in images:
            row["ViewPosition"], row["ViewCodeSequence_CodeMeaning"] = views[images.index(row["dicom_id"])]
        return row

    edit_rows(mimic.dir / METADATA, change)
    rows = rows_of(run(mimic.values(), tmp_path / "root"))
    found = [rows[hash_id("image", image)]["view_position"] for image in images]
    assert found == ["AP", "PA", "AP", "LL", "LL"]
    assert VIEW_INDEX["LL"] == VIEW_INDEX["LATERAL"] != VIEW_INDEX["PA"]


def test_without_metadata_the_header_gives_the_view(mimic: Mimic, tmp_path: Path) -> None:
    (mimic.dir / METADATA).unlink()
    assert {row["view_position"] for row in rows_of(run(mimic.values(), tmp_path / "root")).values()} == {"AP"}


def test_studies_without_a_film_are_counted(mimic: Mimic, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = [f"1000{i % 8:04},5000{i:04},files/s5000{i:04}.txt" for i in range(14)]
    text = "\n".join(["subject_id,study_id,path", *listed]) + "\n"
    (mimic.dir / "cxr-study-list.csv.gz").write_bytes(gzip.compress(text.encode()))
    loaded = run(mimic.values(), tmp_path / "root")
    assert loaded.manifest.left_out == {"studies without a film": 2}
    assert len(rows_of(loaded)) == 18


def test_a_report_that_changes_or_comes_later_is_another_source(mimic: Mimic, tmp_path: Path) -> None:
    """Data made before reports were there are not taken for data with them."""
    root = tmp_path / "root"
    found = [run(mimic.values(), root)]
    (report,) = mimic.dir.rglob("s50000001.txt")
    report.write_text(f" INDICATION:  a longer one\n{report.read_text()}")
    found.append(run(mimic.values(), root))
    row = rows_of(found[-1], by="study_id")[hash_id("study", "50000001")]
    assert row["text_indication"] == "a longer one cough 1"
    films = mimic.film(mimic.study_without_report).parent
    films.with_suffix(".txt").write_text(" INDICATION:  fever\n")
    found.append(run(mimic.values(), root))
    row = rows_of(found[-1], by="study_id")[hash_id("study", mimic.study_without_report)]
    assert row["text_indication"] == "fever"
    assert len({loaded.manifest.source_hash for loaded in found}) == 3


def test_one_file_is_not_two_films(mimic: Mimic, tmp_path: Path) -> None:
    one, other = (mimic.film("50000001", i).relative_to(mimic.dir).as_posix() for i in range(2))
    edit(mimic.dir / RECORDS, other, one)
    assert "one file is two films" in refusal(mimic.values(), tmp_path / "root")


def test_tables_may_lie_elsewhere(mimic: Mimic, tmp_path: Path) -> None:
    """PhysioNet keeps films and record list in one bucket, labels, split and metadata in another."""
    whole = run(mimic.values(), tmp_path / "whole")
    (tmp_path / "jpg").mkdir()
    for name in (CHEXPERT, SPLIT, METADATA):
        (mimic.dir / name).rename(tmp_path / "jpg" / name)
    assert "or set data.tables_dir" in refusal(mimic.values(), tmp_path / "apart")
    values = mimic.values()
    values["data"]["tables_dir"] = str(tmp_path / "jpg")
    apart = run(values, tmp_path / "apart")
    assert apart.manifest.source_hash == whole.manifest.source_hash
    assert rows_of(apart) == rows_of(whole)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        (RECORDS, "00000001-00000001-0000", "00000001-00000000-0000", "film is listed twice: .*lines 3 and 4 column"),
        (RECORDS, "10000001,50000001", "10000002,50000001", "a study has two patients: .*line 4 column subject_id"),
        (SPLIT, "00000001-00000001-0000", "00000001-00000000-0000", "found 1 of 18 films without a split"),
        (CHEXPERT, "50000001", "50000000", "study is listed twice: .*lines 2 and 3 column study_id"),
        (CHEXPERT, "50000001", "", "study has no id: .*line 3 column study_id"),
    ],
)
def test_rows_that_cannot_be_joined(mimic: Mimic, tmp_path: Path, table: str, old: str, new: str, message: str) -> None:
    edit(mimic.dir / table, old, new)
    found = refusal(mimic.values(), tmp_path / "root")
    assert re.search(message, found), found
    assert "5000000" not in found.replace(str(tmp_path), "")
