"""The first contract: the manifest of a data set, which is written last, and reading the Parquet shards it lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import BLANK
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.storage import ABSENT, StaleWriteError, Storage
from components.cxr.text.text import SectionReader

__all__ = [
    "MANIFEST", "SPLITS", "LoadedManifest", "Manifest", "ShardInfo", "SplitCounts", "label_states", "load_manifest",
    "read_shard", "read_versioned", "write_manifest",
]  # fmt: skip

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
SPLITS = ("train", "validate", "test")


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
