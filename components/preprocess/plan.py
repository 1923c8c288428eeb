"""Which studies go into which shard, and the key under which they are kept; every partition makes the same plan."""

from __future__ import annotations

import itertools
import pickle
import zlib
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id, load_id_key
from components.cxr.processes import processes
from components.cxr.shard_writer import shard_schema
from components.cxr.shards import MANIFEST, SCHEMA_VERSION, SPLITS
from components.cxr.storage.joins import shape_of
from components.cxr.storage.storage import Root, Storage
from components.preprocess.adapters import read_source
from components.preprocess.config import DataConfig, PreprocessConfig
from components.preprocess.records import Folder, SourceStudy

__all__ = ["REJECTS", "Layout", "Plan", "ShardPlan", "make_plan", "plan_shards", "read_layout"]

PREPROCESS_VERSION = 7
"""Raised whenever the same source and configuration would give other rows or bytes than before."""

REJECTS = "rejects.parquet"


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be made."""

    index: int
    """Over all splits, from 0."""
    name: str
    """Relative to the manifest."""
    split: str
    num_studies: int
    num_films: int
    """Films listed, readable or not."""
    packed: bytes = field(repr=False)
    """The studies, a tenth of their size; empty where only the shard's name is wanted."""

    @property
    def sidecar(self) -> str:
        """Name of the small file whose presence means that this shard is done."""
        return f"parts/{self.split}-{self.index:05}.json"

    def studies(self) -> list[SourceStudy]:
        """The studies in their order."""
        studies: list[SourceStudy] = pickle.loads(zlib.decompress(self.packed))
        return studies


@dataclass(frozen=True)
class Layout:
    """What the tables of a source say, small enough to be kept while films are read."""

    where: str
    """The source's table or folder, for messages."""
    films: Folder
    pathologies: tuple[str, ...]
    source_hash: str
    shards: tuple[ShardPlan, ...] = field(repr=False)
    left_out: dict[str, int]
    """Studies of the source that became no study here, by reason."""
    unknown: dict[str, int]
    """What the source says but nobody can use, by reason."""
    warnings: tuple[str, ...]
    """What is probably a mistake in the source."""


@dataclass(frozen=True)
class Plan:
    """All that a data set is made from."""

    layout: Layout
    config: PreprocessConfig
    config_hash: str
    ids: IdKey
    key: str
    """Content key of the data set under root."""
    storage: Storage
    """Where the data set lies."""

    @property
    def num_films(self) -> int:
        """Films listed, readable or not."""
        return sum(shard.num_films for shard in self.layout.shards)


def make_plan(data: DataConfig, config: PreprocessConfig, *, root: Root, wanted: Container[int] = ()) -> Plan:
    """Read the source's tables and lay out the shards.

    The tables of a large source need more memory than reading films does, so a process of its own reads them and
    ends, except where the configuration wants this process to do everything.

    Args:
        wanted: indices of the shards whose studies are wanted.

    Raises:
        UserError: the source is wrong (see the adapters), or the output folder holds something else.
    """
    ids = load_id_key()
    arguments = (data, config.images_per_shard, ids, wanted)
    if config.num_workers == 0:
        layout = read_layout(*arguments)
    else:
        with processes(1) as pool:
            layout = pool.submit(read_layout, *arguments).result()
    shard_schema(layout.pathologies, preset=config.pixels)
    config_hash = content_hash(data.canonical_json(), config.result_json(), str(PREPROCESS_VERSION))
    key = content_hash(config_hash, layout.source_hash, config.pixels.hash, str(SCHEMA_VERSION), ids.fingerprint)
    plan = Plan(layout, config, config_hash, ids, key, root.data(key))
    _refuse_foreign(plan)
    return plan


def read_layout(data: DataConfig, images_per_shard: int, ids: IdKey, wanted: Container[int]) -> Layout:
    """Read the tables and keep what is needed of them; see make_plan."""
    source = read_source(data, key=ids)
    if not any(film.exists for study in source.studies for film in study.films):
        listed = [film.path for study in source.studies[:1000] for film in study.films]
        raise UserError(
            "no-films",
            "no film is there",
            where=source.films.uri,
            found=f"names like {source.files_like}",
            expected=f"names like {shape_of(listed)}",
            remedy="Check the section data.",
        )
    shards = plan_shards(source.studies, images_per_shard=images_per_shard, ids=ids, wanted=wanted)
    return Layout(
        source.where,
        source.films,
        source.pathologies,
        source.hash,
        shards,
        source.left_out,
        source.unknown,
        source.warnings,
    )


def plan_shards(
    studies: Iterable[SourceStudy], *, images_per_shard: int, ids: IdKey, wanted: Container[int]
) -> tuple[ShardPlan, ...]:
    """Fill shards split by split in the order of the patients' hashes, which does not follow admission.

    A shard holds one split and ends before the study that would take it above `images_per_shard`.
    """
    shards: list[ShardPlan] = []
    ordered = sorted(
        studies,
        key=lambda study: (
            SPLITS.index(study.split),
            hash_id("order", study.patient_id, ids),
            hash_id("study", study.study_id, ids),
        ),
    )
    for split, group in itertools.groupby(ordered, key=lambda study: study.split):
        batch: list[SourceStudy] = []
        num_films = num_shards = 0
        for study in itertools.chain(group, [None]):
            if batch and (study is None or num_films + len(study.films) > images_per_shard):
                name, index = f"shards/{split}-{num_shards:05}.parquet", len(shards)
                packed = zlib.compress(pickle.dumps(batch), 1) if index in wanted else b""
                shards.append(ShardPlan(index, name, split, len(batch), num_films, packed))
                batch, num_films, num_shards = [], 0, num_shards + 1
            if study is not None:
                batch.append(study)
                num_films += len(study.films)
    return tuple(shards)


def _refuse_foreign(plan: Plan) -> None:
    shards = plan.layout.shards
    ours = {MANIFEST, REJECTS, *(name for shard in shards for name in (shard.name, shard.sidecar))}
    foreign = [name for name in plan.storage.sizes() if name not in ours]
    if foreign:
        raise UserError(
            "output-not-ours",
            "output folder holds something else",
            where=plan.storage.uri,
            found=f"{len(foreign)} unknown files, e.g. {foreign[0]}",
            expected="nothing, or this data set",
            remedy="Move them away, or use another root.",
        )
