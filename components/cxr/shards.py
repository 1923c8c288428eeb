"""The first contract: Parquet shards of images, reports and labels, and the manifest that is written last."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import BLANK
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.storage import ABSENT, StaleWriteError, Storage, sha256_of
from components.cxr.text.text import SECTIONS, SectionReader

__all__ = [
    "MANIFEST", "SPLITS", "ImageRow", "LoadedManifest", "Manifest", "ShardInfo", "SplitCounts",
    "label_states", "load_manifest", "read_shard", "read_versioned", "shard_schema", "write_manifest", "write_shard",
]  # fmt: skip

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
SPLITS = ("train", "validate", "test")

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


class ShardInfo(Config):
    """One shard as the manifest lists it."""

    name: str
    """File name relative to the manifest."""
    split: str
    """train, validate or test: a shard holds one split."""
    rows: int
    """Number of images."""
    studies: int
    """Number of studies; a study never straddles shards."""
    bytes: int
    """File size."""
    sha256: str
    """Of the file, 64 hex digits; checked on every read."""


class SplitCounts(Config):
    """What one split holds."""

    patients: int
    studies: int
    images: int
    labeled_studies: int
    labels: dict[str, dict[str, int]]
    """Per pathology the number of studies positive, negative, uncertain and blank, over labeled studies."""


class Manifest(Config):
    """The table of contents of one data set; its presence means that the set is complete."""

    schema_version: int
    pathologies: tuple[str, ...]
    pixel_preset: PixelPreset
    pixel_preset_hash: str
    section_reader: SectionReader = "strict"
    """How reports became sections; under `mimic` an indication may hold findings."""
    config_hash: str
    """Of the data and preprocess configuration."""
    source_hash: str
    """Of the source tables and the list of films."""
    id_key_fingerprint: str
    """Of the key that made the ids; sets made with two keys never mix."""
    deidentified: bool
    """False when ids were hashed without a secret key."""
    counts: dict[str, SplitCounts]
    """Per split."""
    num_rejects: int
    """Films that failed, listed with their reasons in rejects.parquet."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """What else the source lists or holds that has no row, such as studies without a film: how many, by reason."""
    unknown: dict[str, int] = Field(default_factory=dict)
    """What the source or a film's header says but nobody can use, such as ages above 130: how many, by reason."""
    shards: tuple[ShardInfo, ...]

    def shards_of(self, split: str) -> tuple[ShardInfo, ...]:
        """The shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == split)


class LoadedManifest(NamedTuple):
    """A manifest together with where it lies and the hash of its bytes."""

    manifest: Manifest
    storage: Storage
    hash: str


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


def read_shard(storage: Storage, info: ShardInfo, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one shard after checking its hash.

    Raises:
        UserError: the shard is missing or its bytes are not those of the manifest.
    """
    where = f"{storage.uri}/{info.name}"
    try:
        data = storage.read(info.name).data
    except FileNotFoundError:
        raise UserError("missing-shard", "shard is missing", where=where, remedy="Run preprocess again.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != info.sha256:
        raise UserError(
            "damaged-shard",
            "shard is damaged",
            where=where,
            found=f"sha256 {found[:12]}… in {len(data)} bytes",
            expected=f"{info.sha256[:12]}… in {info.bytes} bytes",
            remedy="Delete it and run preprocess again.",
        )
    return parquet_table(data, columns=columns)


def label_states(table: pa.Table, pathologies: Sequence[str]) -> npt.NDArray[np.int8]:
    """The label columns as int8 [rows, pathologies], null as BLANK."""
    columns = [table.column(name).fill_null(BLANK).to_numpy() for name in pathologies]
    return np.stack(columns, axis=1).astype(np.int8)


def write_manifest(storage: Storage, manifest: Manifest) -> str:
    """Write the manifest, the last file of a data set, where there is none; returns the hash of its bytes.

    Raises:
        UserError: another one was written meanwhile.
    """
    data = (json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()
    try:
        storage.write(MANIFEST, data, if_generation=ABSENT)
    except StaleWriteError:
        if storage.read(MANIFEST).data != data:
            remedy = "Let one run at a time write here, delete this file and run preprocess again."
            raise UserError(
                "other-manifest", "another manifest is here", where=f"{storage.uri}/{MANIFEST}", remedy=remedy
            ) from None
    return _hash(data)


def load_manifest(storage: Storage) -> LoadedManifest:
    """Read the manifest under `storage`.

    Raises:
        UserError: there is none, it is not JSON, or it has another schema version.
    """
    where = f"{storage.uri}/{MANIFEST}"
    try:
        data = storage.read(MANIFEST).data
    except FileNotFoundError:
        raise UserError(
            "no-data-set", "no complete data set here", where=where, remedy="Run preprocess first."
        ) from None
    values = read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="preprocess")
    return LoadedManifest(Manifest.parse(values, where=where), storage, _hash(data))


def read_versioned(data: bytes, *, where: str, version: int, made_by: str) -> dict[str, Any]:
    """Decode a contract's JSON and check its `schema_version` before anything else is believed.

    Raises:
        UserError: not a JSON object, or another version.
    """
    remedy = f"Delete it and run {made_by} again with this version of cxrflow."
    try:
        values = json.loads(data)
    except ValueError:
        raise UserError("bad-json", "file is not JSON", where=where, remedy=remedy) from None
    found = values.get("schema_version") if isinstance(values, dict) else None
    if not isinstance(values, dict) or found != version:
        raise UserError(
            "other-schema-version",
            "another schema version",
            where=f"{where}: schema_version",
            found=found,
            expected=version,
            remedy=remedy,
        )
    return values


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
