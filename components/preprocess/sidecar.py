"""The small file beside each finished shard: what collect needs to know without reading the shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.shard_writer import ImageRow
from components.cxr.shards import ShardInfo
from components.cxr.storage.storage import Storage
from components.preprocess.plan import ShardPlan
from components.preprocess.read_study import Reject, StudyRows

__all__ = ["STATES", "RejectedFilm", "ShardRecord", "Tally", "finished_record", "write_record"]

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
    num_bad_ages: int
    """Films whose header has an age outside 0 to 130 years, or text that is no age."""


class Tally:
    """Counts the studies of one shard while their rows pass on to be written, so that no row is kept."""

    def __init__(self, pathologies: Sequence[str]) -> None:
        self._patients: set[str] = set()
        self._rejects: list[Reject] = []
        self._labeled = self._bad_ages = 0
        self._labels = {name: dict.fromkeys(STATES.values(), 0) for name in pathologies}

    def rows(self, studies: Iterable[StudyRows]) -> Iterator[ImageRow]:
        """The rows of the studies, each counted on its way."""
        for study in studies:
            self._rejects += study.rejects
            self._bad_ages += study.num_bad_ages
            if study.rows:
                self._add(study.rows[0])
            yield from study.rows

    def record(self, info: ShardInfo | None) -> ShardRecord:
        """What was counted, beside the file that was written."""
        return ShardRecord(
            info=info,
            patients=tuple(sorted(self._patients)),
            labeled_studies=self._labeled,
            labels=self._labels,
            rejects=tuple(RejectedFilm(**vars(reject)) for reject in self._rejects),
            num_bad_ages=self._bad_ages,
        )

    def _add(self, first: ImageRow) -> None:
        self._patients.add(first.patient_id)
        if first.labeled:
            self._labeled += 1
            for name, states in self._labels.items():
                states[STATES[first.labels[name]]] += 1


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
    data = storage.read(shard.sidecar).data
    try:
        record = ShardRecord.parse(json.loads(data), where=shard.sidecar)
    except (ValueError, UserError):  # a machine that lost power may keep a name without its bytes
        return None
    if record.info is not None and sizes.get(shard.name) != record.info.bytes:
        return None
    return record
