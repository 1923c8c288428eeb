"""The shipped configurations of public sets on made-up folders of their published layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from components.cxr.config import load_yaml
from components.cxr.errors import UserError
from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES
from components.preprocess.config import parse_data
from tests.components.preprocess.conftest import write_csv
from tests.components.preprocess.published import CONFIGS, commands_of, png, run, run_with

PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
PADCHEST_HEADER = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth"]
PADCHEST_HEADER += ["PatientSex_DICOM", "Projection", "Labels"]


def test_padchest(beside: Path) -> None:
    cells = ["['normal']", "['pleural effusion', ' cardiomegaly']", "['nodule', 'aortic elongation']", "", "[]"]
    cells += ["['pneumonia', 'infiltrates', 'atelectasis', 'pneumothorax', 'consolidation', 'emphysema']"]
    rows = []
    for i in range(12):
        born = ["1967", "1967.0", "", "2020"][i % 4]
        rows.append([str(i), f"f{i}.png", str(i % 3), "20140915", f"s{i}", f"p{i}", born, "M", "PA", cells[i % 6]])
        png(beside / "padchest" / str(i % 3) / f"f{i}.png")
    write_csv(beside / "padchest" / PADCHEST, PADCHEST_HEADER, rows)
    loaded, films = run("padchest", beside)
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
    assert [film["age_years"] for film in by_row[:4]] == [47, 47, None, None]
    assert loaded.manifest.unknown == {"ages that are no number from 0 to 130": 3}


def test_two_films_of_a_study_of_padchest_in_16_bits(beside: Path) -> None:
    every = [[f"a{i}", str(i), "PA", f"['{name}']"] for i, name in enumerate(names_of("padchest"))]
    two = [["front", "s", "AP_horizontal", "['pneumonia']"], ["side", "s", "L", "['pneumonia', 'nodule']"]]
    rows = [
        ["0", f"{name}.png", "7", "20140915", study, f"p{study}", "1967", "F", view, found]
        for name, study, view, found in every + two
    ]
    write_csv(beside / "padchest" / PADCHEST, PADCHEST_HEADER, rows)
    dark = 1000 + 2 * np.arange(1024, dtype=np.uint16).reshape(32, 32)
    for row in rows:
        png(beside / "padchest" / "7" / row[1])
    for name, stored in (("front", dark), ("side", 16 * dark)):
        cv2.imwrite(str(beside / "padchest" / "7" / f"{name}.png"), stored)
    loaded, films = run("padchest", beside)
    front, side = (films[hash_id("image", f"7/{name}.png")] for name in ("front", "side"))
    assert sum(split.studies for split in loaded.manifest.counts.values()) == len(every) + 1
    assert front["study_id"] == side["study_id"] == hash_id("study", "s")
    assert (front["view_position"], side["view_position"]) == ("AP", "LATERAL")
    found = [{name for name in ("pneumonia", "nodule", "normal") if film[name]} for film in (front, side)]
    assert found == [{"pneumonia", "nodule"}] * 2
    stretched = np.rint(np.arange(1024) * 255 / 1023).astype(np.uint8)
    for film in (front, side):
        assert np.abs(np.frombuffer(film["pixels"], np.uint8).astype(int) - stretched).max() <= 1


def names_of(name: str) -> list[str]:
    return load_yaml(CONFIGS / f"{name}.yaml")["data"]["pathologies"]


def test_vindr(beside: Path, dicom: Callable[[Path], None]) -> None:
    names = names_of("vindr-cxr")
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


def test_the_test_table_of_vindr(beside: Path, dicom: Callable[[Path], None]) -> None:
    names = [*names_of("vindr-cxr"), "Other disease"]
    rows = [[f"t{i}", *("1" if name == "ILD" and i < 2 else "0" for name in names)] for i in range(4)]
    for row in rows:
        dicom(beside / "vindr-cxr" / "test" / f"{row[0]}.dicom")
    write_csv(beside / "vindr-cxr" / "annotations" / "image_labels_test.csv", ["image_id", *names], rows)
    ((name, assignments),) = [command for command in commands_of("data.md") if command[0] == "vindr-cxr"]
    _, films = run_with(name, assignments, beside)
    assert [films[hash_id("image", f"t{i}.dicom")]["ILD"] for i in range(4)] == [1, 1, 0, 0]


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
    about = ["DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge"]
    rows = []
    ages, views = ["85 or more", "40", "40-44", ""], ["PA", "L", "RL", ""]
    for i in range(12):
        place = f"id_{i}/Study_1.{i}/Series_1.{i}.1/image-1.{i}.1"
        png(beside / "brax" / "images" / f"{place}.png")
        states = (["1.0", "0.0", "-1.0", ""] * 4)[:14]
        who = [f"Anonymized_DICOMs/{place}.dcm", f"images/{place}.png", f"id_{i}", "F", ages[i % 4]]
        rows.append([*who, *states, str(i), views[i % 4]])
    header = [*about, *PATHOLOGIES, "AccessionNumber", "ViewPosition"]
    write_csv(beside / "brax" / "master_spreadsheet_update.csv", header, rows)
    loaded, films = run("brax", beside)
    by_row = [films[hash_id("image", f"images/id_{i}/Study_1.{i}/Series_1.{i}.1/image-1.{i}.1.png")] for i in range(4)]
    assert [by_row[3][name] for name in PATHOLOGIES[:4]] == [1, 0, -1, None]
    assert by_row[3]["study_id"] == hash_id("study", "3")
    assert [film["view_position"] for film in by_row] == ["PA", "LATERAL", "LATERAL", None]
    assert [film["age_years"] for film in by_row] == [85, 40, 42, None]
    assert not loaded.manifest.unknown


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path_ids": "(unclosed"}, "path_ids"),
        ({"path_ids": "no groups"}, "path_ids"),
        ({"columns": {"patient": "p"}, "path_ids": "(?P<patient>.)"}, "path_ids"),
        ({"columns": {"split": "s"}, "split_lists": {"train": "a.txt"}}, "split_lists"),
        ({"columns": {"image": "{a"}}, "image"),
        ({"label_table": "labels.json"}, "label_key"),
        ({"label_key": "film"}, "label_key"),
        ({"columns": {"birth": "born"}}, "birth"),
        ({"columns": {"birth": "born", "study_date": "day", "age_years": "age"}}, "birth"),
    ],
)
def test_contradictions_are_one_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_data({"adapter": "csv", "table": "t.csv", "image_dir": "i"} | changes)
    assert "\n" not in str(caught.value)


def test_no_configuration_promises_what_no_test_runs() -> None:
    for path in CONFIGS.glob("*.yaml"):
        assert "--set" not in path.read_text(), f"{path.name}: put it into docs/data.md"
