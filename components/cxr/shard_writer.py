"""A shard of the first contract: its rows, its Arrow schema, and how preprocess writes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.shards import SCHEMA_VERSION, ShardInfo
from components.cxr.storage.storage import sha256_of
from components.cxr.text.text import SECTIONS

__all__ = ["ImageRow", "shard_schema", "write_shard"]

_GROUP_BYTES = 16 << 20
"""Pixels in a row group, which is what writing a shard holds in memory."""


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One row of a shard: one image of one study."""

    study_id: str
    patient_id: str
    image_id: str
    split: str
    view_position: str | None
    """DICOM (0018,5101): PA, AP, LATERAL, LL; None when unknown."""
    pixels: npt.NDArray[np.uint8] = field(repr=False)
    """H x W, values 0..255, background 0."""
    text: dict[str, str]
    """Report sections by name (a subset of SECTIONS)."""
    labels: dict[str, int | None]
    """State of each pathology: 1 positive, 0 negative, -1 uncertain, None blank."""
    labeled: bool
    """Whether the study's report was labeled at all."""
    age_years: float | None
    sex: str | None
    """F or M; None when unknown."""
    race: str | None = None
    """As the source spells it; for scores by subgroup alone, never an input of a model."""
    insurance: str | None = None
    """Like `race`."""
    source_hash: str
    """Hash of the source path, to find the film again without naming it."""


def shard_schema(pathologies: Sequence[str], *, preset: PixelPreset) -> pa.Schema:
    """The Arrow schema of a shard.

    Raises:
        UserError: a pathology has the name of another column.
    """
    fields = [
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("view_position", pa.string()),
        pa.field("pixels", pa.binary(), nullable=False),
        *(pa.field(f"text_{name}", pa.string()) for name in SECTIONS),
        pa.field("labeled", pa.bool_(), nullable=False),
        pa.field("age_years", pa.float32()),
        pa.field("sex", pa.string()),
        pa.field("race", pa.string()),
        pa.field("insurance", pa.string()),
        pa.field("source_hash", pa.string(), nullable=False),
    ]
    taken = {item.name for item in fields}
    for name in pathologies:
        if name in taken:
            raise UserError(
                "bad-pathology-name", "pathology has a reserved or repeated name", where="data.pathologies", found=name
            )
        taken.add(name)
    fields += [pa.field(name, pa.int8()) for name in pathologies]
    metadata = {"cxrflow.schema_version": str(SCHEMA_VERSION), "cxrflow.pixels": f"uint8 {preset.size}x{preset.size}"}
    return pa.schema(fields, metadata=metadata)


def write_shard(
    path: Path, rows: Iterable[ImageRow], *, pathologies: Sequence[str], preset: PixelPreset, name: str
) -> ShardInfo:
    """Write the rows of one shard, which share a split; equal rows give equal bytes.

    Holds one row group in memory, not the shard: `rows` may be an iterator that makes them.

    Raises:
        ValueError: no rows, mixed splits, a study whose rows are apart, or pixels of another shape than the preset's.
    """
    schema = shard_schema(pathologies, preset=preset)
    text_columns = [column for column in schema.names if column != "pixels"]
    rows_per_group = max(1, _GROUP_BYTES // preset.size**2)
    rows_of: dict[str, int] = {}
    checked = _checked(rows, rows_of, shape=(preset.size, preset.size), name=name)
    group = list(itertools.islice(checked, rows_per_group))
    if not group:
        raise ValueError(f"a shard needs rows of exactly one split: {name}")
    split = group[0].split
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with pq.ParquetWriter(
            path, schema, compression="zstd", use_dictionary=text_columns, write_statistics=text_columns
        ) as writer:
            while group:
                writer.write_table(pa.Table.from_pylist([_as_dict(row, pathologies) for row in group], schema=schema))
                group = list(itertools.islice(checked, rows_per_group))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    size, sha256 = path.stat().st_size, sha256_of(path)
    return ShardInfo(
        name=name, split=split, rows=sum(rows_of.values()), studies=len(rows_of), bytes=size, sha256=sha256
    )


def _checked(
    rows: Iterable[ImageRow], rows_of: dict[str, int], *, shape: tuple[int, int], name: str
) -> Iterator[ImageRow]:
    """Pass on the rows of one shard, count them by study in `rows_of`, and refuse what does not belong together."""
    last: ImageRow | None = None
    for row in rows:
        if last is not None and row.split != last.split:
            raise ValueError(f"a shard needs rows of exactly one split: {name}")
        if row.study_id in rows_of and (last is None or row.study_id != last.study_id):
            raise ValueError(f"rows of one study must be adjacent: {name}")
        if row.pixels.dtype != np.uint8 or row.pixels.shape != shape:
            raise ValueError(f"pixels must be uint8 {shape}, found {row.pixels.dtype} {row.pixels.shape}: {name}")
        rows_of[row.study_id] = rows_of.get(row.study_id, 0) + 1
        last = row
        yield row


def _as_dict(row: ImageRow, pathologies: Sequence[str]) -> dict[str, Any]:
    return {
        "study_id": row.study_id,
        "patient_id": row.patient_id,
        "image_id": row.image_id,
        "split": row.split,
        "view_position": row.view_position,
        "pixels": row.pixels.tobytes(),
        **{f"text_{name}": row.text.get(name) for name in SECTIONS},
        "labeled": row.labeled,
        "age_years": row.age_years,
        "sex": row.sex,
        "race": row.race,
        "insurance": row.insurance,
        "source_hash": row.source_hash,
        **{name: row.labels.get(name) for name in pathologies},
    }
