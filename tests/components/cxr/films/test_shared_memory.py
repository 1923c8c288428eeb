"""Films from one process's memory to another's; both ends are real mappings of one descriptor."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cxr.films.shared_memory import FilmMemory, opened

MIB = 1 << 20


@pytest.fixture
def ends() -> Iterator[tuple[FilmMemory, FilmMemory]]:
    writer = FilmMemory(os.memfd_create("film"), writable=True)
    yield writer, FilmMemory(writer.number, writable=False)
    writer.close()


def mapped(number: int) -> list[int]:
    """Bytes of each mapping of this descriptor's memory."""
    inode = str(os.fstat(number).st_ino)
    with Path("/proc/self/maps").open() as maps:
        spans = [line.split()[0].split("-") for line in maps if line.split()[4] == inode]
    return [int(stop, 16) - int(start, 16) for start, stop in spans]


def test_each_film_is_read_as_it_was_written(ends: tuple[FilmMemory, FilmMemory]) -> None:
    writer, reader = ends
    for data in (b"first", os.urandom(3 * MIB + 5), b"a short one", b"", os.urandom(2 * MIB), os.urandom(5 * MIB)):
        writer.write(data)
        view = reader.read(len(data))
        assert view == data
        assert view.readonly


def test_a_mapping_is_kept_for_the_next_film_unless_it_is_large(ends: tuple[FilmMemory, FilmMemory]) -> None:
    writer, _ = ends
    writer.write(bytes(8 * MIB))
    writer.write(bytes(MIB))
    assert mapped(writer.number) == [8 * MIB]
    writer.write(bytes(80 * MIB))
    assert mapped(writer.number) == [80 * MIB]
    writer.write(bytes(MIB))
    assert mapped(writer.number) == [MIB]


def test_a_window_reads_like_a_file() -> None:
    data = bytes(range(50))
    window, file = opened(memoryview(data)), io.BytesIO(data)
    assert not isinstance(window, io.BytesIO)
    for size, offset, whence in ((3, 40, 0), (30, -5, 1), (0, 2, 0), (-1, -7, 2), (None, 80, 0), (4, 1, 0)):
        assert window.read(size) == file.read(size)
        assert window.tell() == file.tell()
        assert window.seek(offset, whence) == file.seek(offset, whence)
    assert window.read() == file.read() == data[1:]
