"""Parquet is read in one thread, and as pyarrow reads it."""

from __future__ import annotations

import io
import threading
from collections import Counter
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.cxr.storage.parquet import parquet_table

TABLE = pa.table({"a": list(range(20_000)), "b": [str(i) for i in range(20_000)]}).replace_schema_metadata({"k": "v"})


def written() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(TABLE, buffer, row_group_size=3000)
    return buffer.getvalue()


class Noticed(bytes):
    """Bytes that say which thread let go of them last."""

    threads: ClassVar[Counter[int]] = Counter()

    def __del__(self) -> None:
        Noticed.threads[threading.get_native_id()] += 1


def test_no_other_thread_lets_go_of_the_bytes() -> None:
    """One that does so while Python exits aborts the process."""
    data = written()
    Noticed.threads.clear()
    for _ in range(150):
        parquet_table(Noticed(data))
    assert Noticed.threads == {threading.get_native_id(): 150}


@pytest.mark.parametrize("columns", [None, ["a"], ["b", "a"]])
def test_tables_come_back_as_they_were(columns: list[str] | None) -> None:
    expected = TABLE if columns is None else TABLE.select(columns)
    found = parquet_table(written(), columns=columns)
    assert found.equals(expected)
    assert found.schema.metadata == {b"k": b"v"}


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(KeyError):
        parquet_table(written(), columns=["a", "c"])
