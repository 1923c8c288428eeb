"""The small file beside each finished shard: what collect needs to know without reading the shard."""

from __future__ import annotations

import json
from collections.abc import Sequence

from components.cxr.config import Config
from components.cxr.shards import ImageRow, ShardInfo
from components.cxr.storage import Storage
from components.preprocess.plan import ShardPlan
from components.preprocess.read_study import Reject

__all__ = ["STATES", "RejectedFilm", "ShardRecord", "finished_record", "record_of", "write_record"]

STATES = {1: "positive", 0: "negative", -1: "uncertain", None: "blank"}


class RejectedFilm(Config):
    """A film that was left out."""

    image_id: str
    """Hash of the film's id."""
    source_hash: str
    """Hash of the film's path."""
    code: str
    """Short reason for statistics."""
    reason: str
    """A sentence without ids."""


class ShardRecord(Config):
    """What was made of one shard's studies."""

    info: ShardInfo | None
    """None when no film was readable: then there is no file."""
    patients: tuple[str, ...]
    """Hashes, sorted; a patient's studies may lie in two shards."""
    labeled_studies: int
    """Studies that were labeled at all."""
    labels: dict[str, dict[str, int]]
    """Per pathology the labeled studies by state."""
    rejects: tuple[RejectedFilm, ...]
    """Films that were left out."""


def record_of(
    info: ShardInfo | None, rows: Sequence[ImageRow], rejects: Sequence[Reject], *, pathologies: Sequence[str]
) -> ShardRecord:
    """Count the studies of a shard."""
    labeled = {row.study_id: row.labels for row in rows if row.labeled}
    labels = {name: dict.fromkeys(STATES.values(), 0) for name in pathologies}
    for states in labeled.values():
        for name in pathologies:
            labels[name][STATES[states[name]]] += 1
    return ShardRecord(
        info=info,
        patients=tuple(sorted({row.patient_id for row in rows})),
        labeled_studies=len(labeled),
        labels=labels,
        rejects=tuple(RejectedFilm(**vars(reject)) for reject in rejects),
    )


def write_record(storage: Storage, shard: ShardPlan, record: ShardRecord) -> None:
    """Mark the shard as done."""
    storage.write(shard.sidecar, (record.canonical_json() + "\n").encode())


def finished_record(storage: Storage, shard: ShardPlan, *, sizes: dict[str, int]) -> ShardRecord | None:
    """The record of a shard that is done and still there; None for one to be made (again).

    Args:
        sizes: the data set's files.
    """
    if shard.sidecar not in sizes:
        return None
    record = ShardRecord.parse(json.loads(storage.read(shard.sidecar).data), where=f"{storage.uri}/{shard.sidecar}")
    if record.info is not None and sizes.get(shard.name) != record.info.bytes:
        return None
    return record
