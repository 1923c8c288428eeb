"""Which studies go into which shard, and the key under which they are kept; every partition makes the same plan."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id, load_id_key
from components.cxr.shards import MANIFEST, SCHEMA_VERSION, SPLITS, shard_schema
from components.cxr.storage import Root, Storage
from components.preprocess.adapters import read_source
from components.preprocess.config import DataConfig, PreprocessConfig
from components.preprocess.records import Source, Study

__all__ = ["REJECTS", "Plan", "ShardPlan", "make_plan", "plan_shards"]

PREPROCESS_VERSION = 2
"""Raised whenever the same source and configuration would give other rows than before."""

REJECTS = "rejects.parquet"


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be made."""

    index: int
    """Over all splits, from 0."""
    name: str
    """Relative to the manifest."""
    split: str
    studies: tuple[Study, ...] = field(repr=False)

    @property
    def sidecar(self) -> str:
        """Name of the small file whose presence means that this shard is done."""
        return f"parts/{self.split}-{self.index:05}.json"

    @property
    def num_films(self) -> int:
        """Films listed, readable or not."""
        return sum(len(study.films) for study in self.studies)


@dataclass(frozen=True)
class Plan:
    """All that a data set is made from."""

    source: Source
    shards: tuple[ShardPlan, ...] = field(repr=False)
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
        return sum(shard.num_films for shard in self.shards)


def make_plan(data: DataConfig, config: PreprocessConfig, *, root: Root) -> Plan:
    """Read the source's tables and lay out the shards.

    Raises:
        UserError: the source is wrong (see the adapters), or the output folder holds something else.
    """
    ids = load_id_key()
    source = read_source(data, key=ids)
    shard_schema(source.pathologies, preset=config.pixels)
    config_hash = content_hash(data.canonical_json(), config.result_json(), str(PREPROCESS_VERSION))
    key = content_hash(config_hash, source.hash, config.pixels.hash, str(SCHEMA_VERSION), ids.fingerprint)
    shards = plan_shards(source.studies, images_per_shard=config.images_per_shard, ids=ids)
    plan = Plan(source, shards, config, config_hash, ids, key, root.data(key))
    _refuse_foreign(plan)
    return plan


def plan_shards(studies: tuple[Study, ...], *, images_per_shard: int, ids: IdKey) -> tuple[ShardPlan, ...]:
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
        batch: list[Study] = []
        num_films = num_shards = 0
        for study in [*group, None]:
            if batch and (study is None or num_films + len(study.films) > images_per_shard):
                shards.append(ShardPlan(len(shards), f"shards/{split}-{num_shards:05}.parquet", split, tuple(batch)))
                batch, num_films, num_shards = [], 0, num_shards + 1
            if study is not None:
                batch.append(study)
                num_films += len(study.films)
    return tuple(shards)


def _refuse_foreign(plan: Plan) -> None:
    ours = {MANIFEST, REJECTS, *(name for shard in plan.shards for name in (shard.name, shard.sidecar))}
    foreign = [name for name in plan.storage.sizes() if name not in ours]
    if foreign:
        raise UserError(
            "output folder holds something else",
            where=plan.storage.uri,
            found=f"{len(foreign)} unknown files, e.g. {foreign[0]}",
            expected="nothing, or this data set",
            remedy="Move them away, or use another root.",
        )
