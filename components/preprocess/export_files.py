"""The rows of one shard as a Parquet file with pictures, as a tar of samples, or as PNG files with a table."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.cxr.films.pixels import encode_png
from components.cxr.shards import Manifest
from components.cxr.storage.storage import Storage

__all__ = ["CLASSES", "Rows", "write_parquet", "write_pictures", "write_tar"]

CLASSES = ("negative", "positive", "uncertain")
"""Of a label in Hugging Face's features, by number; null is blank there, too."""

_LEFT_OUT = ("pixels", "split", "source_hash")
_GROUP_BYTES = 16 << 20
"""Pixels in a row group."""


@dataclass(frozen=True)
class Rows:
    """A shard in memory."""

    table: pa.Table
    manifest: Manifest

    @cached_property
    def columns(self) -> list[str]:
        """What is exported beside the picture: the labels, then the rest as the shard orders it."""
        others = [name for name in self.table.column_names if name not in (*_LEFT_OUT, *self.manifest.pathologies)]
        return [*self.manifest.pathologies, *others]

    def pictures(self, start: int = 0, count: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Name without its ending and PNG of rows, 8-bit gray, the pixels of the shard."""
        size = self.manifest.pixel_preset.size
        part = self.table.slice(start, count)
        for image_id, pixels in zip(part["image_id"], part["pixels"], strict=True):
            yield str(image_id), encode_png(np.frombuffer(pixels.as_buffer(), np.uint8).reshape(size, size))

    def described(self) -> Iterator[dict[str, Any]]:
        """All else of each row."""
        yield from self.table.select(self.columns).to_pylist()


def write_parquet(place: Storage, name: str, rows: Rows) -> None:
    """Write a Parquet file that `datasets` opens with an Image and ClassLabels, by its schema's metadata alone."""
    fields = [pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))]
    features: dict[str, Mapping[str, Any]] = {"image": {"_type": "Image"}}
    for column in rows.columns:
        kind = pa.int64() if column in rows.manifest.pathologies else rows.table.schema.field(column).type
        fields.append(pa.field(column, kind))
        known = {pa.string(): "string", pa.bool_(): "bool", pa.float32(): "float32"}
        features[column] = (
            {"names": list(CLASSES), "_type": "ClassLabel"}
            if column in rows.manifest.pathologies
            else {"dtype": known[kind], "_type": "Value"}
        )
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    count = max(1, _GROUP_BYTES // rows.manifest.pixel_preset.size**2)
    with place.writing(name) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows.table), count):
            part = rows.table.slice(start, count)
            pictures = [{"bytes": png, "path": f"{image}.png"} for image, png in rows.pictures(start, count)]
            values = [_classes(part[c]) if c in rows.manifest.pathologies else part[c] for c in rows.columns]
            writer.write_table(pa.Table.from_arrays([pa.array(pictures, fields[0].type), *values], schema=schema))


def write_tar(place: Storage, name: str, rows: Rows) -> None:
    """Write a tar with `<image_id>.png` and `<image_id>.json` of each film side by side; no times, no owners."""
    with place.writing(name) as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for (image, png), described in zip(rows.pictures(), rows.described(), strict=True):
            labels = {pathology: described.pop(pathology) for pathology in rows.manifest.pathologies}
            data = json.dumps({"labels": labels, **described}, ensure_ascii=False).encode()
            for ending, content in (("png", png), ("json", data)):
                member = tarfile.TarInfo(f"{image}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_pictures(place: Storage, name: str, rows: Rows) -> None:
    """Write a PNG a film into one folder, then the table `metadata.csv`, as `datasets`' imagefolder wants both."""
    folder = posixpath.dirname(name)
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["file_name", *rows.columns])
    for (image, png), described in zip(rows.pictures(), rows.described(), strict=True):
        place.write(f"{folder}/{image}.png", png)
        writer.writerow([f"{image}.png", *described.values()])
    place.write(name, table.getvalue().encode())


def _classes(states: pa.ChunkedArray) -> pa.ChunkedArray:
    """1, 0, -1 and null as places in CLASSES."""
    return pc.if_else(pc.equal(states, -1), 2, states).cast(pa.int64())
