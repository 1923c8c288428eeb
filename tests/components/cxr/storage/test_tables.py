"""Tables as cells and label states, and one clear error with its line for each way in which they can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.storage import open_storage
from components.cxr.storage.tables import Table, open_table, read_table


def read(tmp_path: Path, content: bytes, name: str = "t.csv") -> Table:
    (tmp_path / name).write_bytes(content)
    return read_table(open_storage(tmp_path), name)


def refusal(tmp_path: Path, content: bytes, name: str = "t.csv") -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cells_are_text_without_blanks(tmp_path: Path) -> None:
    content = '\ufeffid , note,Edema\n007, é ,1.0\n\n,NA,\n007,"a, ""b""",-1\n'.encode()
    for name, data in (
        ("t.csv", content),
        ("t.csv.gz", gzip.compress(content)),
        ("u.csv", content.replace(b"\n", b"\r\n")),
    ):
        table = read(tmp_path, data, name)
        assert table.header == ("id", "note", "Edema")
        assert len(table) == 3
        assert table.cells("id") == ["007", "", "007"]
        assert table.cells("note") == ["é", "NA", 'a, "b"']
        assert table.states("Edema") == [1, None, -1]


@pytest.mark.parametrize("start", [b"\n", b"\r\n\r\n", b"\xef\xbb\xbf\n", b"sep=,\n\n"])
def test_empty_lines_before_the_header_count_as_lines_alone(tmp_path: Path, start: bytes) -> None:
    table = read(tmp_path, start + b"id,x\n1,2\n3,4\n")
    assert (table.header, table.cells("id")) == (("id", "x"), ["1", "3"])
    assert table.line(0) == start.count(b"\n") + 2


def test_json_lines_are_a_table(tmp_path: Path) -> None:
    content = (
        '\ufeff{"id": " 007 ", "Edema": 1.0}\r\n\r\n{"Edema": null, "id": 8}\n{"id": "9", "note": "a\\nb"}'.encode()
    )
    for name, data in (("t.json", content), ("t.jsonl", content), ("t.json.gz", gzip.compress(content))):
        table = read(tmp_path, data, name)
        assert table.header == ("id", "Edema", "note")
        assert table.cells("id") == ["007", "8", "9"]
        assert table.states("Edema") == [1, None, None]
        assert table.cells("note") == ["", "", "a\nb"]
        assert [table.line(row) for row in range(3)] == [1, 3, 4]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b'{"id": 1}\n{"id": {"Doe": 1}}\n', ["broken row", "t.json line 2", "a JSON object of texts"]),
        (b'[{"id": "Doe"}]', ["broken row", "t.json line 1"]),
        (b'{"id": 1}\n{"id": ' + b"[" * 100_000, ["broken row", "t.json line 2"]),
        (b'{"id": "\\ud800Doe"}\n', ["table is not readable", "JSON lines in UTF-8"]),
        (b'{"id": "\xff"}\n', ["table is not readable", "JSON lines in UTF-8"]),
        (b"{}\n", ["table is empty", "found no header"]),
        (b'{"10000032": 1}\n', ["table has no header"]),
    ],
)
def test_broken_json_lines(tmp_path: Path, content: bytes, parts: list[str]) -> None:
    message = refusal(tmp_path, content, "t.json")
    assert all(part in message for part in parts)
    assert "Doe" not in message


def test_a_cell_is_named_by_its_line_in_the_file(tmp_path: Path) -> None:
    table = read(tmp_path, b'id,report\n1,"two\nlines"\n\n2,"one"\n3,x\n')
    assert table.cells("report") == ["two\nlines", "one", "x"]
    assert [table.line(row) for row in range(3)] == [2, 5, 6]
    assert table.cell(1, "report") == f"{tmp_path}/t.csv line 5 column report"


def test_bad_state_is_named_but_never_quoted_when_it_may_be_a_name(tmp_path: Path) -> None:
    table = read(tmp_path, b"id,Edema,Fracture\n1,1,Jane Doe\n2,7,0\n")
    with pytest.raises(UserError, match=r"line 3 column Edema; found '7', expected 1, 0, -1 or nothing. Fix it"):
        table.states("Edema", remedy="Fix it.")
    with pytest.raises(UserError, match="line 2 column Fracture; found a text of 8 characters"):
        table.states("Fracture")
    with pytest.raises(UserError, match=r"lacks a column.*expected Edma. Did you mean Edema\? Set data.x."):
        table.states("Edma", field="data.x")


def test_a_report_of_a_megabyte_is_a_cell(tmp_path: Path) -> None:
    long = b"x" * 1_000_000
    assert read(tmp_path, b"id,report\n1," + long + b"\n2,y\n").cells("report") == [long.decode(), "y"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["table is empty", "found no header"]),
        (b"\n\n", ["table is empty", "found no header"]),
        (b"id,x\n", ["table is empty", "found 0 rows"]),
        (b"10000032,50414267,Doe\n10000033,1,Doe\n", ["table has no header", "names of columns"]),
        (b"Doe,1950-03-31\nDoe,1\n", ["table has no header"]),
        (b"id,x, id\n1,2,3\n", ["names a column twice", "found id"]),
        (b'id,x\n1,"a\nb"\nDoe\n', ["broken row", "t.csv line 4", "found 1 cells, expected 2"]),
        (b"id,x\n1,2,Doe\n", ["broken row", "t.csv line 2", "found 3 cells, expected 2"]),
        (b"id,x\n1,\xff\xfe\n", ["table is not readable", "CSV in UTF-8"]),
        (b"\xff\xfei\x00d\x00", ["table is not readable", "CSV in UTF-8"]),
    ],
)
def test_broken_tables(tmp_path: Path, content: bytes, parts: list[str]) -> None:
    message = refusal(tmp_path, content)
    for part in parts:
        assert part in message
    assert "Doe" not in message.replace(str(tmp_path), "")


def test_broken_gzip_and_missing_files(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,x\n" + b"1,2\n" * 1000)
    for data in (b"id,x\n1,2\n", whole[:-20], whole[:30] + b"\0" * 20):
        assert "table is not readable" in refusal(tmp_path, data, "t.csv.gz")
    with pytest.raises(UserError, match="table is missing"):
        open_table(str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match=r"table is missing: /nowhere\.csv"):
        open_table("/nowhere.csv")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("image,patient_id,Edema", "3 columns: image, patient_id, Edema"),
        ("image,Ede-ma,Follow (days)", "3 columns: image, Follow (days)"),
        ("image," + "x" * 41, "2 columns: image"),
        ("0.png,Doe Jane,F", "3 columns"),
        ("a,Doe^Jane,F", "3 columns"),
        ("a,Doe Jane,1", "3 columns"),
        ("a,Doe Jane,3-Mar-50", "3 columns"),
        ("a,MRN00817,F", "3 columns"),
        ("Export of Dr. Doe,,", "1 column"),
    ],
)
def test_a_missing_column_is_told_without_what_may_be_a_row(tmp_path: Path, header: str, found: str) -> None:
    table = read(tmp_path, f"{header}\nb,c,d\n".encode() if header.count(",") == 2 else f"{header}\nb,c\n".encode())
    with pytest.raises(UserError, match="table lacks a column") as caught:
        table.cells("patient")
    assert caught.value.found == found
    with pytest.raises(UserError, match="names a column twice") as caught:
        read(tmp_path, b"a.png,Doe Jane,Doe Jane\n1,2,3\n")
    assert "Doe" not in str(caught.value)
