"""The shipped configurations of public sets on made-up folders of their published layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.cxr.config import load_yaml
from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.storage.storage import Root
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from tests.components.preprocess.conftest import write_csv

CONFIGS = Path(__file__).parents[3] / "pipeline" / "configs"
Rows = dict[str, dict[str, Any]]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the repository would lie."""
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path


@pytest.fixture
def dicom(dicom_bytes: Callable[..., bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = np.random.default_rng(len(str(path))).integers(0, 4096, (40, 40)).astype(np.uint16)
        path.write_bytes(dicom_bytes(stored, bits_stored=12))

    return write


def png(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.random.default_rng(len(str(path))).integers(0, 256, (40, 40)).astype(np.uint8)))


def jpeg(path: Path) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 256, (40, 40)).astype(np.uint8))


def run(name: str, beside: Path, **changes: Any) -> tuple[LoadedManifest, Rows]:
    """The data set, and its rows by the film's path in the source."""
    values = load_yaml(CONFIGS / f"{name}.yaml")
    data = parse_data(values["data"] | changes)
    step = PreprocessConfig.parse({"pixels": {"size": 32}, "num_workers": 0}, where="preprocess")
    run_partition(data, step, root=Root(beside / "runs"), partition=0, num_partitions=1)
    loaded = collect(data, step, root=Root(beside / "runs"))
    assert loaded.manifest.num_rejects == 0
    table = pa.concat_tables(read_shard(loaded.storage, info) for info in loaded.manifest.shards)
    return loaded, {row["image_id"]: row for row in table.to_pylist()}


def test_chexpert(beside: Path) -> None:
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *PATHOLOGIES]
    rows = []
    for patient in range(1, 9):
        for study in (1, 2):
            for view in ("view1_frontal", "view2_lateral")[: 1 + patient % 2]:
                path = f"CheXpert-v1.0/train/patient{patient:05}/study{study}/{view}.jpg"
                states = ["1.0" if study == 1 else "", *(["0.0", "-1.0", ""] * 5)[:13]]
                rows.append([path, "Female", "68", "Frontal", "AP" if "frontal" in view else "", *states])
                jpeg(beside / path)
    write_csv(beside / "CheXpert-v1.0" / "train.csv", header, rows)
    loaded, films = run("chexpert", beside)
    counts = loaded.manifest.counts.values()
    assert (sum(c.patients for c in counts), sum(c.studies for c in counts), len(films)) == (8, 16, 24)
    film = films[hash_id("image", "CheXpert-v1.0/train/patient00001/study2/view1_frontal.jpg")]
    assert film["study_id"] == hash_id("study", "patient00001/study2")
    assert film["patient_id"] == hash_id("patient", "patient00001")
    assert [film[name] for name in PATHOLOGIES[:4]] == [None, 0, -1, None]
    assert (film["sex"], film["age_years"], film["view_position"]) == ("F", 68.0, "AP")


def test_padchest(beside: Path) -> None:
    header = ["", "ImageID", "ImageDir", "StudyID", "PatientID", "PatientSex_DICOM", "Projection", "Report", "Labels"]
    cells = ["['normal']", "['pleural effusion', ' cardiomegaly']", "['nodule', 'aortic elongation']", "", "[]"]
    cells += ["['pneumonia', 'infiltrates', 'atelectasis', 'pneumothorax', 'consolidation', 'emphysema']"]
    rows = []
    for i in range(12):
        rows.append([str(i), f"f{i}.png", str(i % 3), f"s{i}", f"p{i}", "M", "PA", "sin hallazgos", cells[i % 6]])
        png(beside / "padchest" / str(i % 3) / f"f{i}.png")
    write_csv(beside / "padchest" / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, rows)
    _, films = run("padchest", beside)
    by_row = [films[hash_id("image", f"{i % 3}/f{i}.png")] for i in range(12)]
    names = ("normal", "cardiomegaly", "pleural effusion", "nodule")
    assert [[film[name] for name in names] for film in by_row[:5]] == [
        [1, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 1],
        [None] * 4,
        [None] * 4,
    ]
    assert [film["labeled"] for film in by_row[:6]] == [True, True, True, False, False, True]


def test_vindr(beside: Path, dicom: Callable[[Path], None]) -> None:
    names = load_yaml(CONFIGS / "vindr-cxr.yaml")["data"]["pathologies"]
    rows = []
    for i in range(10):
        dicom(beside / "vindr-cxr" / "train" / f"f{i}.dicom")
        for reader in range(3):
            states = {"Cardiomegaly": reader < 2, "ILD": reader < 1, "No finding": False}
            rows.append([f"f{i}", f"R{reader}", *("1" if states.get(name) else "0" for name in names)])
    write_csv(beside / "vindr-cxr" / "annotations" / "image_labels_train.csv", ["image_id", "rad_id", *names], rows)
    _, films = run("vindr-cxr", beside)
    assert len(films) == 10
    film = films[hash_id("image", "f3.dicom")]
    assert (film["Cardiomegaly"], film["ILD"], film["No finding"]) == (1, 0, 0)


def test_boxes_of_vinbigdata(beside: Path, dicom: Callable[[Path], None]) -> None:
    header = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    rows = []
    for i in range(10):
        dicom(beside / "vinbigdata" / "train" / f"f{i}.dicom")
        boxes = ["No finding"] * 3 if i % 2 else ["Cardiomegaly", "ILD", "Cardiomegaly"]
        rows += [[f"f{i}", name, "3", f"R{r}", *([] if i % 2 else "1234"), *([""] * 4 if i % 2 else [])]
                 for r, name in enumerate(boxes)]  # fmt: skip
    write_csv(beside / "vinbigdata" / "train.csv", header, rows)
    _, films = run("vinbigdata", beside)
    states = {name: [films[hash_id("image", f"f{i}.dicom")][name] for i in (0, 1)] for name in ("Cardiomegaly", "ILD")}
    assert states == {"Cardiomegaly": [1, 0], "ILD": [1, 0]}
    assert [films[hash_id("image", f"f{i}.dicom")]["No finding"] for i in (0, 1)] == [0, 1]


def test_brax(beside: Path) -> None:
    header = [
        "DicomPath",
        "PngPath",
        "PatientID",
        "PatientSex",
        "PatientAge",
        *PATHOLOGIES,
        "AccessionNumber",
        "ViewPosition",
    ]
    rows = []
    for i in range(12):
        place = f"id_{i}/Study_1.{i}/Series_1.{i}.1/image-1.{i}.1"
        png(beside / "brax" / "images" / f"{place}.png")
        states = (["1.0", "0.0", "-1.0", ""] * 4)[:14]
        rows.append(
            [
                f"Anonymized_DICOMs/{place}.dcm",
                f"images/{place}.png",
                f"id_{i}",
                "F",
                "85 or more",
                *states,
                str(i),
                "PA",
            ]
        )
    write_csv(beside / "brax" / "master_spreadsheet_update.csv", header, rows)
    _, films = run("brax", beside)
    film = films[hash_id("image", "images/id_3/Study_1.3/Series_1.3.1/image-1.3.1.png")]
    assert [film[name] for name in PATHOLOGIES[:4]] == [1, 0, -1, None]
    assert (film["study_id"], film["view_position"]) == (hash_id("study", "3"), "PA")


def test_boxes_of_rsna(beside: Path, dicom: Callable[[Path], None]) -> None:
    rows = []
    for i in range(10):
        dicom(beside / "rsna" / "stage_2_train_images" / f"f{i}.dcm")
        rows += (
            [[f"f{i}", "1", "2", "3", "4", "1"], [f"f{i}", "5", "6", "7", "8", "1"]]
            if i % 2
            else [[f"f{i}", *[""] * 4, "0"]]
        )
    write_csv(beside / "rsna" / "stage_2_train_labels.csv", ["patientId", "x", "y", "width", "height", "Target"], rows)
    loaded, films = run("rsna", beside)
    assert loaded.manifest.pathologies == ("Lung Opacity",)
    assert [films[hash_id("image", f"f{i}.dcm")]["Lung Opacity"] for i in range(10)] == [0, 1] * 5


def test_masks_of_siim(beside: Path, dicom: Callable[[Path], None]) -> None:
    rows = []
    for i in range(10):
        dicom(beside / "siim" / "dicom-images-train" / f"1.2.{i}" / f"1.2.{i}.1" / f"1.2.{i}.1.1.dcm")
        rows += [[f"1.2.{i}.1.1", " 1000 3 1021 2"], [f"1.2.{i}.1.1", " 9 1"]] if i % 2 else [[f"1.2.{i}.1.1", " -1"]]
    write_csv(beside / "siim" / "train-rle.csv", ["ImageId", " EncodedPixels"], rows)
    _, films = run("siim", beside)
    path = "1.2.{0}/1.2.{0}.1/1.2.{0}.1.1.dcm"
    assert [films[hash_id("image", path.format(i))]["Pneumothorax"] for i in range(10)] == [0, 1] * 5


def nih(beside: Path) -> Path:
    folder = beside / "nih-cxr14-full"
    header = [
        "Image Index",
        "Finding Labels",
        "Follow-up #",
        "Patient ID",
        "Patient Age",
        "Patient Gender",
        "View Position",
    ]
    header += ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
    rows = []
    for i in range(20):
        png(folder / f"images_{1 + i % 2:03}" / "images" / f"{i:08}_000.png")
        found = ["No Finding", "Cardiomegaly|Effusion", "Hernia"][i % 3]
        rows.append([f"{i:08}_000.png", found, "0", str(i), "58", "M", "PA", "2682", "2749", "0.143", "0.143"])
    write_csv(folder / "Data_Entry_2017_v2020.csv", header, rows)
    (folder / "train_val_list.txt").write_text("\n".join(row[0] for row in rows[:14]))
    (folder / "test_list.txt").write_bytes(b"\r\n".join(row[0].encode() for row in rows[14:]) + b"\r\n")
    return folder


def test_nih_with_its_official_split(beside: Path) -> None:
    nih(beside)
    loaded, films = run("nih-cxr14-full", beside, validate_fraction=0.3)
    split = [films[hash_id("image", f"images_{1 + i % 2:03}/images/{i:08}_000.png")]["split"] for i in range(20)]
    assert set(split[14:]) == {"test"}
    assert set(split[:14]) == {"train", "validate"}
    assert loaded.manifest.pathologies == ("No Finding", "Cardiomegaly", "Effusion", "Hernia")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "test_list.txt").unlink(), "missing-split-list"),
        (lambda folder: (folder / "test_list.txt").write_text("00000014_000.png"), "film-without-split"),
        (lambda folder: (folder / "test_list.txt").write_text("00000001_000.png"), "film-in-two-splits"),
        (lambda folder: png(folder / "more" / "00000001_000.png"), "duplicate-film"),
    ],
)
def test_what_is_wrong_with_lists_and_names_is_one_error(
    change: Callable[[Path], None], code: str, beside: Path
) -> None:
    change(nih(beside))
    with pytest.raises(UserError) as caught:
        run("nih-cxr14-full", beside)
    assert caught.value.code == code
    assert "000_000" not in str(caught.value)


def test_paths_that_hold_no_ids_are_one_error(beside: Path) -> None:
    jpeg(beside / "CheXpert-v1.0" / "train" / "a.jpg")
    row = ["CheXpert-v1.0/train/a.jpg", "Male", "50", "Frontal", "AP", *["1.0"] * 14]
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *PATHOLOGIES]
    write_csv(beside / "CheXpert-v1.0" / "train.csv", header, [row])
    with pytest.raises(UserError, match=r"does not fit data\.path_ids: .*line 2 column Path"):
        run("chexpert", beside)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path_ids": "(unclosed"}, "path_ids"),
        ({"path_ids": "no groups"}, "path_ids"),
        ({"columns": {"patient": "p"}, "path_ids": "(?P<patient>.)"}, "path_ids"),
        ({"columns": {"split": "s"}, "split_lists": {"train": "a.txt"}}, "split_lists"),
        ({"columns": {"image": "{a"}}, "image"),
    ],
)
def test_contradictions_are_one_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_data({"adapter": "csv", "table": "t.csv", "image_dir": "i"} | changes)
    assert "\n" not in str(caught.value)
