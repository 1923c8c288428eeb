"""Tables as people export them, through the command line: read rightly, or one clear line; never silently wrong."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from components.cxr.ids import hash_id
from components.cxr.shards import load_manifest
from components.cxr.storage.csv_text import delimiter_of
from components.cxr.storage.storage import open_storage
from tests.components.preprocess.steps import command, edit, edit_rows, rows_of


class Mimic(Protocol):
    dir: Path
    num_films: int
    unlabeled_study: str

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


class Table(Protocol):
    path: Path
    header: list[str]
    rows: list[list[str]]

    def values(self, **data: Any) -> dict[str, dict[str, Any]]: ...
    def rewrite(self, *, header: list[str] | None = None, rows: list[list[str]] | None = None) -> None: ...


Values = dict[str, dict[str, Any]]
CHEXPERT, SPLIT = "mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.0.0-split.csv.gz"
RECORDS, METADATA = "cxr-record-list.csv.gz", "mimic-cxr-2.0.0-metadata.csv.gz"
COLUMNS = {"image": "file", "patient": "patient"}


def run(values: Values, folder: Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the whole step."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"root": str(folder / "root")}))
    code, out, err = command("--config", config)
    assert "Traceback" not in err
    return code, out, err


def read(values: Values, folder: Path, by: str = "image_id") -> tuple[dict[str, dict[str, Any]], str, str]:
    """Rows, standard output and standard error of a run that succeeds."""
    code, out, err = run(values, folder)
    assert code == 0, err
    manifest = Path(out.rpartition("manifest: ")[2].strip())
    return rows_of(load_manifest(open_storage(manifest.parent)), by=by), out, err


def refusal(values: Values, folder: Path) -> str:
    """The one line of a run that is refused."""
    code, _, err = run(values, folder)
    assert code == 2, err
    (line,) = err.strip().splitlines()
    return line


def labels_of(row: dict[str, Any]) -> list[int | None]:
    return [row["Edema"], row["Fracture"]]


# --- spellings of one film, patients and studies that nobody named


def test_one_film_in_two_spellings_for_two_patients_is_refused(table: Table, tmp_path: Path) -> None:
    table.rewrite(rows=[*table.rows, ["./f3.png", "p99", "train", "0", "0"]])
    message = refusal(table.values(), tmp_path)
    assert "film is listed twice" in message
    assert "lines 5 and 12 column file" in message
    assert "p99" not in message


@pytest.mark.parametrize("spelling", ["./f3.png", "x/../f3.png", "f3.png ", ".//f3.png", "FOLDER/f3.png"])
def test_a_film_that_is_listed_again_with_the_same_row_counts_once(table: Table, tmp_path: Path, spelling: str) -> None:
    again = [spelling.replace("FOLDER", str(table.path.parent / "films")), *table.rows[3][1:]]
    table.rewrite(rows=[*table.rows, again])
    rows, out, _ = read(table.values(), tmp_path)
    assert set(rows) == {hash_id("image", f"f{i}.png") for i in range(10)}
    assert "left out: 1 rows that repeat another" in out


def test_unknown_patients_are_not_one_patient(table: Table, tmp_path: Path) -> None:
    """Splits are by patient: one patient without a name would be a third of a set."""
    table.rewrite(
        rows=[[row[0], "" if i < 3 else "nan" if i < 5 else row[1], *row[2:]] for i, row in enumerate(table.rows)]
    )
    rows, out, _ = read(table.values(columns=COLUMNS, pathologies=["Edema"]), tmp_path)
    assert len({row["patient_id"] for row in rows.values()}) == 10
    assert "unknown: 5 patients of studies" in out


def test_a_study_without_a_name_is_a_film_of_its_own(table: Table, tmp_path: Path) -> None:
    visits = ["v0", "v0", "", "NaN", "v4", "v4.0", "7", "7.0", "v8", "v9"]
    patients = ["a", "", "", "", "b", "c", "d", "d", "e", "f"]
    rows = [[row[0], patient, visit, "1"] for row, patient, visit in zip(table.rows, patients, visits, strict=True)]
    table.rewrite(header=["file", "patient", "visit", "Edema"], rows=rows)
    found, out, _ = read(table.values(columns=COLUMNS | {"study": "visit"}), tmp_path)
    by_film = [found[hash_id("image", f"f{i}.png")] for i in range(10)]
    studies = [row["study_id"] for row in by_film]
    assert studies[0] == studies[1]
    assert by_film[0]["patient_id"] == by_film[1]["patient_id"] == hash_id("patient", "a")
    assert studies[6] == studies[7] == hash_id("study", "7")
    assert len(set(studies)) == 8
    assert "unknown: 2 patients of studies" in out
    assert "unknown: 2 studies of films" in out


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("sub\\f0.png", "named with backslashes: .*found 1 of 10 films, such as xxx.x9.png.*Replace"),
        (
            "F0.png",
            "in other capitals: .*found 1 of 10 films, such as F9.png.*expected names as .*like f9.png",
        ),
        ("SUB\\F0.PNG", "in other capitals"),
    ],
)
def test_films_spelled_otherwise_than_on_the_disk(table: Table, tmp_path: Path, cell: str, said: str) -> None:
    films = table.path.parent / "films"
    if "\\" in cell:
        (films / "sub").mkdir()
        (films / "f0.png").rename(films / "sub" / "f0.png")
    table.rows[0][0] = cell
    table.rewrite()
    assert re.search(said, refusal(table.values(), tmp_path))


def test_names_that_are_nowhere_are_shown_by_their_shape(table: Table, tmp_path: Path) -> None:
    table.rewrite(rows=[[f"DOE_{i}.png", *row[1:]] for i, row in enumerate(table.rows)])
    message = refusal(table.values(), tmp_path)
    assert "no film is there" in message
    assert "found names like f9.png, expected names like XXX_9.png" in message


def test_absolute_paths_under_the_folder(table: Table, tmp_path: Path) -> None:
    films = table.path.parent / "films"
    table.rewrite(rows=[[str(films / row[0]), *row[1:]] for row in table.rows])
    assert set(read(table.values(), tmp_path)[0]) == {hash_id("image", f"f{i}.png") for i in range(10)}


# --- how spreadsheets and data frames write tables


def rewritten(rows: list[list[str]], header: list[str], **options: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows([header, *rows])
    return text.getvalue().encode()


@pytest.mark.parametrize(
    "written",
    [
        lambda header, rows: rewritten(rows, header, delimiter=";"),
        lambda header, rows: rewritten(rows, header, delimiter="\t"),
        lambda header, rows: rewritten(rows, header, delimiter="|"),
        lambda header, rows: rewritten(rows, header).decode().encode("utf-16"),
        lambda header, rows: b"\xfe\xff" + rewritten(rows, header).decode().encode("utf-16-be"),
        lambda header, rows: b"\xef\xbb\xbf" + rewritten(rows, header),
        lambda header, rows: rewritten(rows, [f" {name} " for name in header]),
        lambda header, rows: rewritten(rows, header, quoting=csv.QUOTE_ALL),
        lambda header, rows: rewritten(rows, header) + b"\r\n\r\n\n",
        lambda header, rows: rewritten([rows[0], [""] * len(header), *rows[1:], [" "] * len(header)], header),
        lambda header, rows: rewritten([[str(i), *row] for i, row in enumerate(rows)], ["", *header]),
        lambda header, rows: rewritten([[*row, "", ""] for row in rows], [*header, "", ""]),
        lambda header, rows: rewritten([[f'="{cell}"' for cell in row] for row in rows], header),
        lambda header, rows: rewritten([[f"  {cell}\u00a0" for cell in row] for row in rows], header),
        lambda header, rows: rewritten([[row[0], f"{row[1]}.0", *row[2:]] for row in rows], header),
        lambda header, rows: rewritten([[*row[:3], row[3] or "NaN", row[4] or "<NA>"] for row in rows], header),
        lambda header, rows: rewritten([[*row[:3], row[3] or "None", row[4] or "NA"] for row in rows], header),
    ],
    ids=[
        "semicolons", "tabs", "bars", "utf-16", "utf-16-be", "bom", "header blanks", "quoted", "blank lines",
        "cleared rows", "row numbers", "empty columns", "excel text", "blanks", "float ids", "NaN", "None",
    ],
)  # fmt: skip
def test_every_way_of_writing_a_table_gives_the_same_rows(
    table: Table, tmp_path: Path, written: Callable[[list[str], list[list[str]]], bytes]
) -> None:
    rows = [[row[0], f"0{i:04}", row[2], *row[3:]] for i, row in enumerate(table.rows)]
    table.rewrite(rows=rows)
    (tmp_path / "plain").mkdir()
    plain, *_ = read(table.values(), tmp_path / "plain")
    table.path.write_bytes(written(table.header, rows))
    (tmp_path / "other").mkdir()
    other, *_ = read(table.values(), tmp_path / "other")
    assert other == plain
    assert plain[hash_id("image", "f0.png")]["patient_id"] == hash_id("patient", "00000")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pat1,", "1.2E+07,", "an id is in scientific notation: .*line 3 column patient.*export the column as text"),
        ("pat1,", "5.0e7,", "an id is in scientific notation: .*line 3 column patient"),
        ("file,patient,part,Edema,Fracture", "file,patient,part,Edema,Edema", "names a column twice: .*found Edema"),
        ("file,patient", "file,Patient_ID", "lacks a column: .*expected patient. Did you mean Patient_ID"),
        (
            "file,patient",
            "FILE,patient",
            r"lacks a column: .*Did you mean FILE\? Set data.columns.image",
        ),
        ("f1.png,pat1,train,0", "f1.png,pat1,train,inf", "bad label: .*line 3 column Edema"),
        ("f1.png,pat1,train,0", "f1.png,pat1,train,yes", "bad label: .*line 3 column Edema.*Write yes as 1"),
        ("f1.png,pat1,train,0", "f1.png,pat1,,0", "unknown split: .*line 3 column part; found nothing"),
        ("f1.png,pat1", ",pat1", "film has no id: .*line 3 column file"),
    ],
)
def test_what_cannot_be_read_is_one_line(table: Table, tmp_path: Path, old: str, new: str, said: str) -> None:
    edit(table.path, old, new)
    assert re.search(said, refusal(table.values(), tmp_path))


def test_a_patient_pasted_with_an_invisible_character_is_one_patient(table: Table, tmp_path: Path) -> None:
    table.rows[1][1], table.rows[2][1] = "pat0\u200b", "\ufeffpat0"
    table.rewrite()
    assert len({row["patient_id"] for row in read(table.values(), tmp_path)[0].values()}) == 8


def test_a_gz_that_is_no_gz(table: Table, tmp_path: Path) -> None:
    packed = table.path.with_name("labels.csv.gz")
    packed.write_bytes(table.path.read_bytes())
    message = refusal(table.values(table=str(packed)), tmp_path)
    assert "table is not readable" in message
    assert "gzipped if its name ends in .gz" in message


def test_ages_of_every_writing(table: Table, tmp_path: Path) -> None:
    cells = ["058Y", "58y", "6M", "61.5", "nan", "inf", "-1", "131", "NA", "999Y"]
    rows = [[*row[:2], cell, "1"] for row, cell in zip(table.rows, cells, strict=True)]
    table.rewrite(header=["file", "patient", "age", "Edema"], rows=rows)
    found, out, _ = read(table.values(columns=COLUMNS | {"age_years": "age"}), tmp_path)
    ages = [found[hash_id("image", f"f{i}.png")]["age_years"] for i in range(10)]
    assert ages == [58.0, 58.0, 0.5, 61.5, *[None] * 6]
    assert "unknown: 5 ages" in out
    edit(table.path, "58y", "grown up")
    assert re.search(
        "bad age: .*line 3 column age", refusal(table.values(columns=COLUMNS | {"age_years": "age"}), tmp_path)
    )


@pytest.mark.parametrize(
    ("age", "years", "refused"),
    [
        ("058Y", 58.0, 0),
        ("58y", 58.0, 0),
        ("6M", 0.5, 0),
        ("063", 63.0, 0),
        ("", None, 0),
        ("999Y", None, 1),
        ("old", None, 1),
    ],
)
def test_ages_of_headers(mimic: Mimic, tmp_path: Path, age: str, years: float | None, refused: int) -> None:
    film = min(mimic.dir.rglob("*.dcm"))
    film.write_bytes(film.read_bytes().replace(b"040Y", age.ljust(4).encode()))
    rows, out, _ = read(mimic.values(), tmp_path)
    assert rows[hash_id("image", film.stem)]["age_years"] == years
    assert ("unknown: 1 ages of films' headers" in out) == bool(refused)


# --- MIMIC-CXR's tables


def relabeled(mimic: Mimic, change: Callable[[str], str]) -> None:
    """Change the study ids of the label table."""
    path = mimic.dir / CHEXPERT
    path.write_text(re.sub(r"\b(5000\d{4})\b", lambda match: change(match[1]), path.read_text()))


@pytest.mark.parametrize("change", [lambda s: f"{s}.0", lambda s: f"s{s}", lambda s: f"S{s}", lambda s: f'="{s}"'])
def test_studies_are_found_however_the_label_table_writes_them(
    mimic: Mimic, tmp_path: Path, change: Callable[[str], str]
) -> None:
    (tmp_path / "plain").mkdir()
    plain, *_ = read(mimic.values(), tmp_path / "plain")
    relabeled(mimic, change)
    (tmp_path / "other").mkdir()
    other, *_ = read(mimic.values(), tmp_path / "other")
    assert other == plain
    assert sum(row["labeled"] for row in other.values()) == 16


def test_every_table_with_float_ids_and_prefixes(mimic: Mimic, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain, *_ = read(mimic.values(), tmp_path / "plain")
    edit_rows(mimic.dir / RECORDS, lambda r: r | {"study_id": f"s{r['study_id']}", "subject_id": f"p{r['subject_id']}"})
    edit_rows(mimic.dir / SPLIT, lambda r: r | {"dicom_id": f"{r['dicom_id']}.dcm"})
    edit_rows(mimic.dir / METADATA, lambda r: r | {"study_id": f"{r['study_id']}.0"})
    (tmp_path / "other").mkdir()
    assert read(mimic.values(), tmp_path / "other")[0] == plain


def test_a_label_table_of_other_studies_is_refused_and_one_of_few_is_warned_about(mimic: Mimic, tmp_path: Path) -> None:
    relabeled(mimic, lambda s: f"X{s}")
    message = refusal(mimic.values(), tmp_path)
    assert "no studies of the label table match" in message
    assert "found 0 of 12 studies of the label table, ids like X99999999, expected ids like 99999999" in message
    path = mimic.dir / CHEXPERT
    path.write_text(path.read_text().replace("X", "", 3))
    _, _, err = read(mimic.values(), tmp_path)
    assert "warning: under half of the studies of the label table match" in err
    assert "found 3 of 12 studies of the label table, ids like X99999999" in err
    assert "5000" not in err.replace(str(tmp_path), "")


def test_metadata_of_other_films(mimic: Mimic, tmp_path: Path) -> None:
    edit_rows(mimic.dir / METADATA, lambda row: row | {"dicom_id": f"film {row['dicom_id']}"})
    message = refusal(mimic.values(), tmp_path)
    assert "no films of the metadata match" in message
    assert "ids like xxxx 99999999-99999999-9999, expected ids like 99999999-99999999-9999" in message


def test_a_split_table_of_other_films(mimic: Mimic, tmp_path: Path) -> None:
    edit_rows(mimic.dir / SPLIT, lambda row: row | {"dicom_id": f"{row['dicom_id']}_a"})
    message = refusal(mimic.values(), tmp_path)
    assert "18 of 18 films without a split, such as 99999999-99999999-9999" in message
    assert "the table's are like 99999999-99999999-9999_x" in message


@pytest.mark.parametrize("suffix", [".TXT", ".Txt"])
def test_reports_in_capitals(mimic: Mimic, tmp_path: Path, suffix: str) -> None:
    for path in list(mimic.dir.rglob("*.txt")):
        path.rename(path.with_suffix(suffix))
    rows, *_ = read(mimic.values(), tmp_path, by="study_id")
    assert sum(row["text_indication"] is not None for row in rows.values()) == 11


def test_reports_under_other_names(mimic: Mimic, tmp_path: Path) -> None:
    reports = list(mimic.dir.rglob("*.txt"))
    for path in reports:
        path.rename(path.with_name(path.name.removeprefix("s")))
    message = refusal(mimic.values(), tmp_path)
    assert "no reports match" in message
    assert "files/p99/p99999999/99999999.txt, expected ids like files/p99/p99999999/s99999999.txt" in message
    for path in reports:
        path.with_name(path.name.removeprefix("s")).unlink()
    (mimic.dir / "LICENSE.txt").touch()
    assert "warning: no report is there" in read(mimic.values(), tmp_path)[2]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(METADATA, "ViewPosition", "LL"), (SPLIT, "split", "test"), (RECORDS, "study_id", "50000009")],
)
def test_rows_of_one_film_agree_or_are_refused(
    mimic: Mimic, tmp_path: Path, table: str, column: str, value: str
) -> None:
    path = mimic.dir / table
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join([*lines, lines[1]]).encode()))
    assert len(read(mimic.values(), tmp_path)[0]) == mimic.num_films
    cells = lines[1].split(",")
    cells[lines[0].split(",").index(column)] = value
    path.write_bytes(gzip.compress("\n".join([*lines, ",".join(cells)]).encode()))
    message = refusal(mimic.values(), tmp_path)
    assert re.search(r"film is listed twice: .*lines 2 and 20 column dicom_id; found rows that disagree", message)


def test_label_rows_that_agree_in_other_writing_count_once(mimic: Mimic, tmp_path: Path) -> None:
    path = mimic.dir / CHEXPERT
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("1.0", "1").replace("50000000", "50000000.0")]))
    assert len(read(mimic.values(), tmp_path)[0]) == mimic.num_films


def test_films_in_capitals_or_with_backslashes_are_told(mimic: Mimic, tmp_path: Path) -> None:
    film = min(mimic.dir.rglob("*.dcm"))
    film.rename(film.with_suffix(".DCM"))
    assert re.search("in other capitals: .*found 1 of 18 films", refusal(mimic.values(), tmp_path))
    film.with_suffix(".DCM").rename(film)
    edit_rows(mimic.dir / RECORDS, lambda row: row | {"path": row["path"].replace("/", "\\")})
    assert re.search("named with backslashes: .*found 18 of 18 films", refusal(mimic.values(), tmp_path))


def test_a_subject_id_that_is_empty_is_refused(mimic: Mimic, tmp_path: Path) -> None:
    edit_rows(mimic.dir / RECORDS, lambda row: row | {"subject_id": ""})
    assert "film has no patient or study" in refusal(mimic.values(), tmp_path)


# --- what passes in silence elsewhere


def test_columns_that_differ_in_capitals_are_not_two_pathologies(table: Table, tmp_path: Path) -> None:
    edit(table.path, "Edema,Fracture", "Edema,edema")
    message = refusal(table.values(), tmp_path)
    assert re.search("two spellings of one pathology: .*found Edema and edema", message)
    rows, *_ = read(table.values(pathologies=["Edema"]), tmp_path)
    assert "edema" not in next(iter(rows.values()))


def test_listed_names_that_differ_in_capitals_are_told_by_their_shape(table: Table, tmp_path: Path) -> None:
    rows = [[*row[:2], name] for row, name in zip(table.rows, ["Edema", "edema"] * 5, strict=True)]
    table.rewrite(header=["file", "patient", "found"], rows=rows)
    listed = {"column": "found", "separator": "|", "none": "No Finding"}
    message = refusal(table.values(columns=COLUMNS, label_list=listed), tmp_path)
    assert re.search("two spellings of one pathology: .*column found; found Xxxxx and xxxxx", message)


def test_a_table_without_a_label_is_warned_about(table: Table, tmp_path: Path) -> None:
    assert "no row has a label" not in read(table.values(), tmp_path)[2]
    table.rewrite(rows=[[*row[:3], "", ""] for row in table.rows])
    (line,) = [line for line in read(table.values(), tmp_path)[2].splitlines() if "no row has a label" in line]
    assert line.startswith("warning: ")


def test_a_file_that_two_patients_have_by_links_is_refused(table: Table, tmp_path: Path) -> None:
    films = table.path.parent / "films"
    (films / "f1.png").unlink()
    (films / "f1.png").symlink_to("f0.png")
    assert "one file is a film of two patients" in refusal(table.values(), tmp_path)
    table.rows[1][1] = table.rows[0][1]
    table.rewrite()
    assert len(read(table.values(), tmp_path)[0]) == 10
    for name in ("f2.png", "f3.png"):
        (tmp_path / "elsewhere.png").write_bytes((films / name).read_bytes())
        (films / name).unlink()
        (films / name).symlink_to(tmp_path / "elsewhere.png")
    table.rows[2][1], table.rows[3][1] = "one", "other"
    table.rewrite()
    assert "one file is a film of two patients" in refusal(table.values(), tmp_path)


def test_films_behind_a_linked_folder_are_told(table: Table, tmp_path: Path) -> None:
    films = table.path.parent / "films"
    (tmp_path / "disk").mkdir()
    (films / "f0.png").rename(tmp_path / "disk" / "f0.png")
    (films / "more").symlink_to(tmp_path / "disk")
    table.rows[0][0] = "more/f0.png"
    table.rewrite()
    message = refusal(table.values(), tmp_path)
    assert re.search("films lie behind a linked folder: .*found 1 of 10 films.*mount the folder", message)


@pytest.mark.parametrize("start", ["sep=;\r\n", "\ufeffsep=;\r\n", '"sep=;"\n', "SEP=;\n"])
def test_a_first_line_that_names_the_delimiter(table: Table, tmp_path: Path, start: str) -> None:
    (tmp_path / "plain").mkdir()
    plain, *_ = read(table.values(), tmp_path / "plain")
    table.path.write_text(start + table.path.read_text().replace(",", ";"))
    (tmp_path / "other").mkdir()
    assert read(table.values(), tmp_path / "other")[0] == plain
    edit(table.path, "f1.png;pat1;train;0", "f1.png;pat1;train;7")
    assert "bad label: " in (message := refusal(table.values(), tmp_path))
    assert "line 4 column Edema" in message


def test_a_cleared_row_moves_no_line_of_a_message(table: Table, tmp_path: Path) -> None:
    table.rewrite(rows=[[""] * len(table.header), *table.rows])
    edit(table.path, "f1.png,pat1,train,0", "f1.png,pat1,train,7")
    assert "line 4 column Edema" in refusal(table.values(), tmp_path)


def test_an_encoding_of_old_spreadsheets_is_refused_with_the_remedy(table: Table, tmp_path: Path) -> None:
    table.path.write_bytes(table.path.read_bytes().replace(b"pat1", b"pat\xe4"))
    assert re.search("table is not readable: .*CSV UTF-8", refusal(table.values(), tmp_path))


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("file;age (years, whole);Edema\na.png;60;1\n", ";"),
        ("file;age (years, whole);Edema\na, b.png;60;1\n", ";"),
        ('file,"by (q;r;s;t)",Edema\na.png,x,1\n', ","),
        ("file;age (years, whole);Edema\n", ","),
        ("file,Edema\na.png,1,2\n", ","),
        ("file\na.png\n", ","),
        ("", ","),
    ],
)
def test_a_name_with_another_delimiter_in_it_splits_no_table(text: str, delimiter: str) -> None:
    assert delimiter_of(text.encode()) == delimiter
