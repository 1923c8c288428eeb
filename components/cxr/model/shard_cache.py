"""Shards of a data set, each read and decoded by one process of a machine and then mapped by all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.cxr.config import content_hash
from components.cxr.shards import ShardInfo, read_shard
from components.cxr.storage.node_cache import made_once
from components.cxr.storage.storage import Storage

__all__ = ["CachedShard", "cached_shards"]


class CachedShard(NamedTuple):
    """One shard's pixels and some of its other columns."""

    pixels_NHW: npt.NDArray[np.uint8]
    """Read-only, in the order of the shard's rows."""
    table: pa.Table
    """One row per film."""


def cached_shards(
    storage: Storage, infos: Sequence[ShardInfo], *, size: int, columns: Sequence[str]
) -> Iterator[CachedShard]:
    """The shards' pixels, uint8 [rows, size, size], and `columns`, from this machine's cache.

    What another process is making is left for later: processes that start together share the shards out.

    Raises:
        UserError: a shard is missing or damaged, or there is no room for its pixels.
    """
    shards = [_Shard(storage, info, columns) for info in infos]
    found = [shard.pixels(wait=False) for shard in shards]
    for shard, pixels_N in zip(shards, found, strict=True):
        if pixels_N is None:
            pixels_N = shard.pixels()
        yield CachedShard(pixels_N.reshape(shard.info.rows, size, size), shard.table())


class _Shard:
    """Reads a shard at most once, for the one or two files that are made from it."""

    def __init__(self, storage: Storage, info: ShardInfo, columns: Sequence[str]) -> None:
        self.storage, self.info, self.columns = storage, info, columns

    @overload
    def pixels(self) -> npt.NDArray[np.uint8]: ...
    @overload
    def pixels(self, *, wait: bool) -> npt.NDArray[np.uint8] | None: ...

    def pixels(self, *, wait: bool = True) -> npt.NDArray[np.uint8] | None:
        """One row after the other; None while another process makes them, unless that is waited for."""
        return made_once(f"{self.info.sha256}-pixels", self._make_pixels, wait=wait)

    def table(self) -> pa.Table:
        """The other columns, in memory of the file."""
        return self._table(lambda: read_shard(self.storage, self.info, columns=self.columns))

    def _make_pixels(self) -> list[memoryview]:
        table = read_shard(self.storage, self.info, columns=[*self.columns, "pixels"])
        # the columns first: whoever sees the pixels finds them, and no one reads the shard for them alone
        self._table(lambda: table.drop_columns("pixels"))
        return [memoryview(film.as_buffer()) for film in table.column("pixels")]

    def _table(self, read: Callable[[], pa.Table]) -> pa.Table:
        written = made_once(f"{self.info.sha256}-{content_hash(*self.columns)}", lambda: [_written(read())])
        return _read(written)


def _written(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _read(written: npt.NDArray[np.uint8]) -> pa.Table:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(pa.py_buffer(written), options=options) as reader:
        return reader.read_all()
