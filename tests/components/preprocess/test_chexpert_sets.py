"""CheXpert, CheXpert Plus and their tables of tests, on made-up folders of their published layouts."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.cxr.errors import UserError
from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES
from components.cxr.shards import MANIFEST
from tests.components.preprocess.conftest import write_csv
from tests.components.preprocess.published import commands_of, jpeg, png, run, run_with

HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *PATHOLOGIES]


def test_chexpert(beside: Path) -> None:
    rows = []
    for patient in range(1, 9):
        for study in (1, 2):
            for view in ("view1_frontal", "view2_lateral")[: 1 + patient % 2]:
                path = f"CheXpert-v1.0/train/patient{patient:05}/study{study}/{view}.jpg"
                states = ["1.0" if study == 1 else "", *(["0.0", "-1.0", ""] * 5)[:13]]
                about = ["Frontal", "AP"] if "frontal" in view else ["Lateral", ""]
                rows.append([path, "Female", "68", *about, *states])
                jpeg(beside / path)
    write_csv(beside / "CheXpert-v1.0" / "train.csv", HEADER, rows)
    loaded, films = run("chexpert", beside)
    counts = loaded.manifest.counts.values()
    assert (sum(c.patients for c in counts), sum(c.studies for c in counts), len(films)) == (8, 16, 24)
    film = films[hash_id("image", "CheXpert-v1.0/train/patient00001/study2/view1_frontal.jpg")]
    assert film["study_id"] == hash_id("study", "patient00001/study2")
    assert film["patient_id"] == hash_id("patient", "patient00001")
    assert [film[name] for name in PATHOLOGIES[:4]] == [None, 0, -1, None]
    assert (film["sex"], film["age_years"], film["view_position"]) == ("F", 68.0, "AP")
    side = films[hash_id("image", "CheXpert-v1.0/train/patient00001/study2/view2_lateral.jpg")]
    assert (side["study_id"], side["view_position"]) == (film["study_id"], "LATERAL")


def test_paths_that_hold_no_ids_are_one_error(beside: Path) -> None:
    jpeg(beside / "CheXpert-v1.0" / "train" / "a.jpg")
    row = ["CheXpert-v1.0/train/a.jpg", "Male", "50", "Frontal", "AP", *["1.0"] * 14]
    write_csv(beside / "CheXpert-v1.0" / "train.csv", HEADER, [row])
    with pytest.raises(UserError, match=r"does not fit data\.path_ids: .*line 2 column Path"):
        run("chexpert", beside)


REPORT = """NARRATIVE:
Radiographic examination of the chest: 3-4-2010

CLINICAL HISTORY: Cough of patient {0}.

COMPARISON: 3/2/2010

FINDINGS:

The heart is large.

IMPRESSION:

1.MILD CARDIOMEGALY.

SUMMARY: 2-ABNORMAL, PREVIOUSLY REPORTED
"""


class Plus:
    """CheXpert Plus with one film per study but for the first of each split, which has a lateral."""

    def __init__(self, beside: Path) -> None:
        self.dir = beside / "chexpert-plus"
        self.labels = self.dir / "chexbert_labels" / "impression_fixed.json"
        self.paths = [
            f"{split}/patient{patient:05}/study{study}/{view}.jpg"
            for split, patients in (("train", range(1, 11)), ("valid", range(64541, 64544)))
            for patient in patients
            for study in (1, 2)
            for view in ("view1_frontal", "view2_lateral")[: 1 + (patient in (1, 64541))]
        ]
        rows = []
        for path in self.paths:
            split, patient, study, view = path.split("/")
            about = ["Frontal", "PA"] if "frontal" in view else ["Lateral", ""]
            report = REPORT.format(patient) + f"ACCESSION NUMBER:\n{path}\n"  # reports of one study differ in it
            texts = [report, "3-4-2010", f"Cough of patient {patient}.", "MILD CARDIOMEGALY."]
            files = [path, path.replace(".jpg", ".dcm")]
            rows.append([*files, *about, patient, study[-1], *texts, "90.0", "Female", "White", split])
            png(self.dir / "PNG" / path.replace(".jpg", ".png"))
        header = ["path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id"]
        header += ["patient_report_date_order", "report", "section_narrative", "section_clinical_history"]
        header += ["section_impression", "age", "sex", "race", "split"]
        write_csv(self.dir / "df_chexpert_plus_240401.csv", header, rows)
        self.states: dict[str, dict[str, float | None]] = {
            path: dict.fromkeys(PATHOLOGIES) | {"Cardiomegaly": 1.0, "Edema": -1.0, "Fracture": 0.0}
            for path in self.paths
        }
        self.write()

    def write(self) -> None:
        """The labels, in another order than the films."""
        lines = [json.dumps({"path_to_image": path} | states) for path, states in self.states.items()]
        random.Random(1).shuffle(lines)
        self.labels.parent.mkdir(exist_ok=True)
        self.labels.write_text("\n".join(lines) + "\n")


@pytest.fixture
def plus(beside: Path) -> Plus:
    return Plus(beside)


def film_of(films: dict[str, dict[str, Any]], path: str) -> dict[str, Any]:
    return films[hash_id("image", path)]


def test_chexpert_plus(plus: Plus, beside: Path) -> None:
    front, side = (f"train/patient00001/study2/view{view}.jpg" for view in ("1_frontal", "2_lateral"))
    plus.states[side] |= {"Edema": 1.0, "Pneumonia": 0.0}  # a study with two impressions
    del plus.states["train/patient00003/study1/view1_frontal.jpg"]
    plus.states["train/patient00003/study2/view1_frontal.jpg"] = dict.fromkeys(PATHOLOGIES)
    plus.write()
    loaded, films = run("chexpert-plus", beside)
    assert len(films) == len(plus.paths)
    assert loaded.manifest.pathologies == PATHOLOGIES
    first = film_of(films, front.replace(".jpg", ".png"))
    lateral = film_of(films, side.replace(".jpg", ".png"))
    assert (first["view_position"], lateral["view_position"]) == ("PA", "LATERAL")
    for film in (first, lateral):
        assert film["study_id"] == hash_id("study", "patient00001/study2")
        assert film["patient_id"] == hash_id("patient", "patient00001")
        names = ("Cardiomegaly", "Edema", "Fracture", "Pneumonia", "No Finding")
        assert [film[name] for name in names] == [1, 1, 0, 0, None]
        assert (film["age_years"], film["sex"]) == (90, "F")
        assert film["text_indication"] == "Cough of patient patient00001."
        assert film["text_impression"] == "1.MILD CARDIOMEGALY."
    unlabeled, blank = (film_of(films, f"train/patient00003/study{i}/view1_frontal.png") for i in (1, 2))
    assert (unlabeled["labeled"], blank["labeled"]) == (False, True)  # the labeler read the second and met nothing
    assert {
        film["split"] for name, film in films.items() if film["patient_id"] == hash_id("patient", "patient64541")
    } == {"test"}
    assert {film["split"] for film in films.values()} == {"train", "validate", "test"}


def test_other_films_of_chexpert_plus(plus: Plus, beside: Path, dicom: Callable[[Path], None]) -> None:
    for folder in ("PNG", "chexbert_labels"):
        shutil.make_archive(str(plus.dir / folder), "zip", plus.dir, folder)
    for path in plus.paths:
        dicom(plus.dir / "DICOM" / path.replace(".jpg", ".dcm"))
        jpeg(beside / "CheXpert-v1.0-small" / path)
    _, expected = run("chexpert-plus", beside)
    shutil.rmtree(plus.dir / "PNG")
    commands = [assignments for name, assignments in commands_of("data.md") if name == "chexpert-plus"]
    for assignments, suffix in zip(commands, ("png", "dcm", "jpg"), strict=True):
        _, films = run_with("chexpert-plus", assignments, beside)
        if suffix == "png":
            assert films == expected
        lateral = film_of(films, f"train/patient00001/study1/view2_lateral.{suffix}")
        assert (lateral["Cardiomegaly"], lateral["view_position"]) == (1, "LATERAL")


def test_tables_that_radiologists_labeled(beside: Path) -> None:
    commands = [assignments for name, assignments in commands_of("data.md") if name == "chexpert"]
    assert len(commands) == 2
    valid = "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg"
    jpeg(beside / valid)
    states = ["1.0" if name == "Edema" else "0.0" for name in PATHOLOGIES]
    write_csv(beside / "CheXpert-v1.0" / "valid.csv", HEADER, [[valid, "Male", "73", "Frontal", "AP", *states]])
    test = "test/patient64741/study1/view1_frontal.jpg"
    jpeg(beside / "chexlocalize" / "CheXpert" / test)
    write_csv(beside / "chexlocalize" / "CheXpert" / "test_labels.csv", ["Path", *PATHOLOGIES], [[test, *states]])
    for assignments, path, patient in zip(commands, (valid, test), ("patient64541", "patient64741"), strict=True):
        _, films = run_with("chexpert", assignments, beside)
        film = film_of(films, path)
        assert (film["Edema"], film["Fracture"], film["patient_id"]) == (1, 0, hash_id("patient", patient))


def replace_line(text: str) -> Callable[[Plus], None]:
    def change(plus: Plus) -> None:
        lines = plus.labels.read_text().split("\n")
        plus.labels.write_text("\n".join([*lines[:2], text, *lines[3:]]))

    return change


def label_it_twice(plus: Plus) -> None:
    with plus.labels.open("a") as file:
        file.write(json.dumps({"path_to_image": plus.paths[0], "Cardiomegaly": 0.0}) + "\n")


def rename_the_key(plus: Plus) -> None:
    plus.labels.write_text(plus.labels.read_text().replace("path_to_image", "film"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_line('{"path_to_image": "Jane Doe'), r"broken row: .*_fixed\.json line 3; expected a JSON object"),
        (replace_line("[1]"), "broken row: .* line 3"),
        (replace_line('{"path_to_image": {"Jane": "Doe"}}'), "broken row: .* line 3"),
        (replace_line('{"path_to_image": "Jane Doe", "Edema": "yes"}'), "bad label: .* line 3 column Edema"),
        (replace_line('{"Edema": 1.0}'), "label row has no id: .* line 3 column path_to_image"),
        (label_it_twice, "label row is listed twice: .* column path_to_image; found rows that disagree"),
        (rename_the_key, r"lacks a column.*expected path_to_image.*Set data\.label_key"),
        (lambda plus: plus.labels.write_text("\n"), "table is empty"),
        (lambda plus: plus.labels.unlink(), r"table is missing: .*impression_fixed\.json"),
        (lambda plus: png(plus.dir / "PNG" / plus.paths[0]), "two files have the name of a film.* one suffix"),
    ],
)
def test_what_is_wrong_with_labels_of_their_own_is_one_error(
    change: Callable[[Plus], None], message: str, plus: Plus, beside: Path
) -> None:
    change(plus)
    with pytest.raises(UserError, match=message) as caught:
        run("chexpert-plus", beside)
    assert "\n" not in str(caught.value)
    assert "Jane" not in str(caught.value)
    assert not list(beside.rglob(MANIFEST))


def test_labels_of_other_films_are_one_error_and_of_few_a_warning(
    plus: Plus, beside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plus.states = {f"{path}x": states for path, states in plus.states.items()} | {
        path: plus.states[path] for path in plus.paths[:2]
    }
    plus.write()
    run("chexpert-plus", beside)
    assert "warning: under half of the rows of the label table match" in capsys.readouterr().err
    plus.states = {name: states for name, states in plus.states.items() if name not in plus.paths}
    plus.write()
    with pytest.raises(UserError, match="no rows of the label table match"):
        run("chexpert-plus", beside)
