from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pytest
import yaml

from components.cxr.config import load_yaml, section
from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id
from components.cxr.shards import MANIFEST, LoadedManifest, read_shard
from components.cxr.storage.storage import Root
from components.preprocess.adapters.csv_table import read_csv_table
from components.preprocess.collect import collect
from components.preprocess.config import CsvData, PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from components.preprocess.read_study import read_sections


class Table(Protocol):
    path: Path
    header: list[str]
    rows: list[list[str]]

    def values(self, **data: Any) -> dict[str, dict[str, Any]]: ...
    def rewrite(self, *, header: list[str] | None = None, rows: Sequence[Sequence[str]] | None = None) -> None: ...


COLUMNS = {"image": "file", "patient": "patient", "split": "part"}


def run(values: dict[str, dict[str, Any]], root: Path) -> LoadedManifest:
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    run_partition(data, step, root=Root(root), partition=0, num_partitions=1)
    return collect(data, step, root=Root(root))


def rows_of(loaded: LoadedManifest) -> dict[str, dict[str, Any]]:
    rows = pa.concat_tables(read_shard(loaded.storage, info) for info in loaded.manifest.shards).to_pylist()
    return {row["image_id"]: row for row in rows}


def refusal(values: dict[str, dict[str, Any]], root: Path) -> str:
    with pytest.raises(UserError) as caught:
        run(values, root)
    assert not list(root.rglob(MANIFEST))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_column_a_pathology(table: Table, tmp_path: Path) -> None:
    loaded = run(table.values(), tmp_path / "root")
    assert loaded.manifest.pathologies == ("Edema", "Fracture")
    rows = rows_of(loaded)
    assert [(rows[hash_id("image", f"f{i}.png")]["Edema"]) for i in range(4)] == [1, 0, -1, None]
    assert rows[hash_id("image", "f1.png")]["Fracture"] == 1
    assert rows[hash_id("image", "f0.png")]["study_id"] == hash_id("study", "f0.png")
    assert {row["split"] for row in rows.values()} <= {"train", "validate", "test"}
    assert sum(row["split"] == "test" for row in rows.values()) == 3


def test_chosen_pathologies_and_unlabeled_rows(table: Table, tmp_path: Path) -> None:
    table.rewrite(rows=[[*row[:3], "", row[4]] if row[0] == "f0.png" else row for row in table.rows])
    rows = rows_of(run(table.values(pathologies=["Edema"]), tmp_path / "root"))
    assert not rows[hash_id("image", "f0.png")]["labeled"]
    assert rows[hash_id("image", "f1.png")]["labeled"]
    assert "Fracture" not in rows[hash_id("image", "f0.png")]


@pytest.mark.parametrize(("not_mentioned", "absent"), [(0, 0), (0.0, 0), ("blank", None)])
def test_one_column_with_all_labels(table: Table, tmp_path: Path, not_mentioned: Any, absent: int | None) -> None:
    names = ["Mass|Edema", "No Finding", "Edema", ""]
    table.rewrite(
        header=["file", "patient", "part", "found"], rows=[[*row[:3], names[i % 4]] for i, row in enumerate(table.rows)]
    )
    loaded = run(table.values(label_list={"column": "found"}, not_mentioned=not_mentioned), tmp_path / "root")
    assert loaded.manifest.pathologies == ("No Finding", "Edema", "Mass")
    rows = rows_of(loaded)
    first, none, unlabeled = (rows[hash_id("image", f"f{i}.png")] for i in (0, 1, 3))
    assert [first[name] for name in loaded.manifest.pathologies] == [absent, 1, 1]
    assert [none[name] for name in loaded.manifest.pathologies] == [1, absent, absent]
    assert not unlabeled["labeled"]
    assert unlabeled["Mass"] is None


def test_validation_is_carved_from_train_by_patient(table: Table, tmp_path: Path) -> None:
    rows = [[f"f{i % 10}.png", f"pat{i // 2}", "train" if i < 160 else "test", "1", "0"] for i in range(200)]
    films = table.path.parent / "films"
    for i, row in enumerate(rows):
        row[0] = f"g{i}.png"
        (films / row[0]).write_bytes((films / f"f{i % 10}.png").read_bytes())
    table.rewrite(rows=rows)
    found = rows_of(run(table.values(validate_fraction=0.25), tmp_path / "root"))
    splits: dict[str, set[str]] = {}
    for row in found.values():
        splits.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(of_patient) == 1 for of_patient in splits.values())
    counts = {
        name: sum(of_patient == {name} for of_patient in splits.values()) for name in ("train", "validate", "test")
    }
    assert counts["test"] == 20
    assert 10 <= counts["validate"] <= 30
    no_split = {key: value for key, value in COLUMNS.items() if key != "split"}
    hashed = rows_of(run(table.values(columns=no_split, pathologies=["Edema"]), tmp_path / "hashed"))
    patients = {row["patient_id"]: row["split"] for row in hashed.values()}
    assert 55 <= list(patients.values()).count("train") <= 85
    assert 8 <= list(patients.values()).count("test") <= 32


def test_text_metadata_and_studies(table: Table, tmp_path: Path) -> None:
    header = ["file", "patient", "part", "visit", "why", "view", "age", "sex", "Edema"]
    rows = [
        [
            f"f{i}.png",
            f"pat{i // 2}",
            "train",
            f"v{i // 2}",
            f" cough \n {i // 2}",
            "pa" if i % 2 else "",
            "61.5",
            "female",
            "1",
        ]
        for i in range(10)
    ]
    table.rewrite(header=header, rows=rows)
    columns = {
        "study": "visit",
        "text": {"indication": "why"},
        "view_position": "view",
        "age_years": "age",
        "sex": "sex",
    }
    values = table.values(columns=COLUMNS | columns)
    found = rows_of(run(values, tmp_path / "root"))
    row = found[hash_id("image", "f3.png")]
    assert row["study_id"] == found[hash_id("image", "f2.png")]["study_id"] == hash_id("study", "v1")
    assert (row["text_indication"], row["view_position"], row["age_years"], row["sex"]) == ("cough 1", "PA", 61.5, "F")
    assert found[hash_id("image", "f2.png")]["view_position"] is None
    rows[3][-1] = "0"
    table.rewrite(header=header, rows=rows)
    assert "rows of one study disagree" in (message := refusal(values, tmp_path / "other"))
    assert "lines 6 and 8" in message
    rows[3][-1], rows[3][6] = "1", "old"
    table.rewrite(header=header, rows=rows)
    assert "line 8 column age" in refusal(values, tmp_path / "other")


def test_report_column(table: Table, tmp_path: Path) -> None:
    table.rewrite(
        header=[*table.header, "report"], rows=[[*row, "INDICATION: cough\nFINDINGS: clear"] for row in table.rows]
    )
    found = rows_of(run(table.values(columns=COLUMNS | {"report": "report"}), tmp_path / "root"))
    row = found[hash_id("image", "f0.png")]
    assert (row["text_indication"], row["text_findings"], row["text_other"]) == ("cough", "clear", None)


@pytest.mark.parametrize(
    ("header", "data", "parts"),
    [
        (["file", "patient", "part"], {}, ["table has no label column", "labels.csv", "found file, patient, part"]),
        (["file", "pat", "part", "Edema"], {}, ["lacks a column", "expected patient", "Did you mean pat?"]),
        (
            None,
            {"pathologies": ["Edma"]},
            ["lacks a column", "expected Edma", "Did you mean Edema? Set data.pathologies"],
        ),
        (None, {"label_list": {"column": "labels"}}, ["lacks a column", "data.label_list.column"]),
        (
            None,
            {"label_list": {"column": "part"}, "pathologies": ["Mass"]},
            ["occurs nowhere", "2 other names, expected Mass"],
        ),
        (None, {"splits": {"train": "train"}}, ["unknown split", "line 9 column part", "found 'test'", "data.splits"]),
        (None, {"table": "/nowhere/t.csv"}, ["table is missing", "/nowhere/t.csv"]),
        (None, {"image_dir": "/nowhere"}, ["folder is missing or empty", "/nowhere", "data.image_dir"]),
    ],
)
def test_refusals(
    table: Table, tmp_path: Path, header: list[str] | None, data: dict[str, Any], parts: list[str]
) -> None:
    if header is not None:
        table.rewrite(header=header, rows=[row[: len(header)] for row in table.rows])
    message = refusal(table.values(**data), tmp_path / "root")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("column", "cell", "parts"),
    [
        (3, "2", ["bad label", "line 3 column Edema", "found '2'", "expected 1, 0, -1 or nothing"]),
        (3, "Jane Doe, born 1950", ["bad label", "a text of 19 characters"]),
        (0, "f0.png", ["film is listed twice", "lines 2 and 3 column file"]),
        (0, "", ["film has no id", "line 3 column file"]),
    ],
)
def test_bad_cells(table: Table, tmp_path: Path, column: int, cell: str, parts: list[str]) -> None:
    table.rows[1][column] = cell
    table.rewrite()
    message = refusal(table.values(), tmp_path / "root")
    for part in parts:
        assert part in message
    assert "born 1950" not in message


def test_empty_table(table: Table, tmp_path: Path) -> None:
    table.rewrite(rows=[])
    assert "table is empty" in refusal(table.values(), tmp_path / "root")


def test_ages_from_birth_to_study(table: Table, tmp_path: Path) -> None:
    dates = [("1968-03-15", "20140915"), ("1967", "2014-09-15"), ("NaN", "20140915"), ("20150101", "20140915")]
    rows = [[*row, *dates[i % 4]] for i, row in enumerate(table.rows)]
    table.rewrite(header=[*table.header, "born", "day"], rows=rows)
    values = table.values(columns=COLUMNS | {"birth": "born", "study_date": "day"}, pathologies=["Edema"])
    loaded = run(values, tmp_path / "root")
    by_row = [rows_of(loaded)[hash_id("image", f"f{i}.png")]["age_years"] for i in range(4)]
    assert by_row == [pytest.approx(46.5, abs=0.01), 47, None, None]
    assert loaded.manifest.unknown == {"ages that are no number from 0 to 130": 2}
    table.rewrite(header=[*table.header, "born", "day"], rows=[[*row, "15.9.1967", "2014"] for row in table.rows])
    message = refusal(values, tmp_path / "other")
    assert "bad date" in message
    assert "line 2 column born or day" in message
    assert "15.9" not in message


def test_labels_of_patients_in_a_table_of_their_own(table: Table, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("Mass;patient\n1;pat3\n0;pat1\n;pat0\n")
    values = table.values(label_table=str(tmp_path / "labels.csv"), label_key="patient")
    loaded = run(values, tmp_path / "root")
    assert loaded.manifest.pathologies == ("Mass",)
    rows = rows_of(loaded)
    by_row = [rows[hash_id("image", f"f{i}.png")] for i in range(4)]
    assert [(row["Mass"], row["labeled"]) for row in by_row] == [(None, True), (0, True), (None, False), (1, True)]
    (tmp_path / "labels.csv").write_text("Mass;patient\n1;pat3\n0;pat1\n1;pat0\n")
    assert run(values, tmp_path / "root").manifest.source_hash != loaded.manifest.source_hash


def test_patient_in_two_splits(table: Table, tmp_path: Path) -> None:
    table.rows[9][1] = "pat0"
    table.rewrite()
    message = refusal(table.values(), tmp_path / "root")
    assert f"patient {hash_id('patient', 'pat0')} in" in message
    assert "pat0" not in message


@pytest.mark.parametrize("name", ["study_id", "pixels"])
def test_pathology_named_like_a_column_of_the_shards(table: Table, tmp_path: Path, name: str) -> None:
    table.rewrite(header=["file", "patient", "part", name, "Fracture"])
    assert f"found {name}" in refusal(table.values(), tmp_path / "root")


def test_images_outside_the_folder_are_missing(table: Table, tmp_path: Path) -> None:
    table.rows[0][0] = "../labels.csv"
    table.rewrite()
    assert "missing 1" in refusal(table.values(), tmp_path / "root")


def test_real_films(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of the NIH films through the shipped configuration."""
    repository = Path(__file__).parents[3]
    monkeypatch.chdir(repository)
    values = load_yaml(repository / "pipeline" / "configs" / "nih-cxr14.yaml")
    source = real_data / "nih-cxr14" / "labels.csv"
    lines = source.read_text().splitlines()
    sample = tmp_path / "labels.csv"
    sample.write_text("\n".join([lines[0], *lines[1::6]]) + "\n")
    data = section(values, "data") | {"table": str(sample), "image_dir": str(source.parent / "images")}
    step = section(values, "preprocess") | {"num_workers": 0}
    loaded = run(yaml.safe_load(yaml.safe_dump({"data": data, "preprocess": step})), tmp_path / "root")
    assert loaded.manifest.num_rejects == 0
    counts = loaded.manifest.counts
    assert sum(split.images for split in counts.values()) == len(lines[1::6])
    assert counts["train"].images > 3 * counts["validate"].images > 0
    assert "Hernia" not in loaded.manifest.pathologies
    assert counts["train"].labels["No Finding"]["positive"] > 50
    assert all(state["uncertain"] == 0 for state in counts["train"].labels.values())


def test_line_breaks_that_the_whole_column_writes_as_backslashes(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    for i in range(4):
        (tmp_path / "films" / f"f{i}.png").write_bytes(b"x")
    rows = [
        r'f0.png,p0,"INDICATION: cough\nFINDINGS: right lower lobe opacity\nIMPRESSION: pneumonia",0',
        r'f1.png,p1,"Indication: fever\n\nFindings: clear\n\nImpression: normal",1',
        r'f2.png,p2,"INDICATION: fall\r\nFINDINGS: rib fracture\r\nIMPRESSION: fracture",0',
        'f3.png,p3,"INDICATION: pain_x000D_FINDINGS: effusion_x000D_IMPRESSION: effusion",1',
    ]
    (tmp_path / "t.csv").write_text("\n".join(["image,patient_id,report,Edema", *rows, ""]))
    data = {"adapter": "csv", "table": str(tmp_path / "t.csv"), "image_dir": str(tmp_path / "films")}
    config = parse_data({**data, "columns": {"report": "report"}})
    assert isinstance(config, CsvData)
    source = read_csv_table(config, key=IdKey(None))
    read = [read_sections(study, source.films.open(), reader="strict") for study in source.studies]
    assert [sections["indication"] for sections in read] == ["cough", "fever", "fall", "pain"]
    assert [sections["impression"] for sections in read] == ["pneumonia", "normal", "fracture", "effusion"]


def test_a_sex_is_one_of_four_words(table: Table, tmp_path: Path) -> None:
    words = ["F", "female", " M ", "Male", "Mujer", "missing", "", "NaN", "Fille", "f"]
    rows = [[*row, word] for row, word in zip(table.rows, words, strict=True)]
    table.rewrite(header=[*table.header, "sex"], rows=rows)
    loaded = run(table.values(columns=COLUMNS | {"sex": "sex"}), tmp_path / "root")
    found = rows_of(loaded)
    sexes = [found[hash_id("image", f"f{i}.png")]["sex"] for i in range(10)]
    assert sexes == ["F", "F", "M", "M", None, None, None, None, None, "F"]
    assert loaded.manifest.unknown == {"sexes that are not F, Female, M or Male": 3}


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("age_years", "40", "70"),
        ("age_years", "0", "1"),
        ("sex", "F", "M"),
        ("text", "cough", "known cancer"),
    ],
)
def test_rows_of_a_study_that_tell_different_things_are_an_error(
    table: Table, tmp_path: Path, field: str, one: str, other: str
) -> None:
    columns = COLUMNS | {"study": "visit", field: {"indication": "more"} if field == "text" else "more"}
    for more, is_refused in ((other, True), ("", False), (one, False)):
        rows = [[f"f{i}.png", "pat", "train", "1", "0", "visit", more if i else one] for i in range(2)]
        table.rewrite(header=[*table.header, "visit", "more"], rows=rows)
        values = table.values(columns=columns)
        if is_refused:
            message = refusal(values, tmp_path / "root")
            assert "rows of one study disagree" in message
            assert "lines 2 and 3; expected the same text, age and sex" in message
        else:
            assert len(rows_of(run(values, tmp_path / f"root{more}"))) == 2


def test_a_group_of_a_path_that_does_not_match_is_nothing_known(table: Table, tmp_path: Path) -> None:
    columns = {"image": "file", "patient": "", "split": None}
    values = table.values(columns=columns, pathologies=["Edema"], path_ids=r"f(?P<patient>\d)?(?P<study>[2-9])?\.png")
    rows = rows_of(run(values, tmp_path / "root"))
    row = rows[hash_id("image", "f3.png")]
    assert (row["patient_id"], row["study_id"]) == (hash_id("patient", "3"), hash_id("study", "f3.png"))


def test_a_list_of_a_split_may_begin_with_a_mark(table: Table, tmp_path: Path) -> None:
    for split, films in (("train", range(7)), ("test", range(7, 10))):
        (tmp_path / f"{split}.txt").write_text("".join(f"f{i}.png\r\n" for i in films), encoding="utf-8-sig")
    lists = {split: str(tmp_path / f"{split}.txt") for split in ("train", "test")}
    values = table.values(columns={"image": "file", "patient": "patient"}, pathologies=["Edema"], split_lists=lists)
    assert run(values, tmp_path / "root").manifest.counts["test"].images == 3
