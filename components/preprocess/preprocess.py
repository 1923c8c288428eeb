"""Step 1, one partition: films and reports into shards. Killed anywhere, it continues to the same bytes."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator

from components.cxr.errors import UserError
from components.cxr.progress import track
from components.cxr.shard_writer import write_shard
from components.cxr.shards import MANIFEST, load_manifest
from components.cxr.storage.storage import Root
from components.preprocess.config import DataConfig, PreprocessConfig
from components.preprocess.plan import REJECTS, Plan, ShardPlan, make_plan
from components.preprocess.read_study import StudyRows
from components.preprocess.sidecar import Tally, finished_record, write_record
from components.preprocess.workers import ReaderSpec, read_studies

__all__ = ["is_complete", "run_partition"]


def run_partition(
    data: DataConfig, config: PreprocessConfig, *, root: Root, partition: int, num_partitions: int
) -> str:
    """Make the shards whose index is `partition` modulo `num_partitions`; those already there are kept.

    Returns the key of the data set under `root`.

    Raises:
        UserError: the source or the output folder is wrong; see make_plan.
    """
    if not 0 <= partition < num_partitions:
        expected = f"0 to {num_partitions - 1} of {num_partitions} partitions"
        raise UserError("bad-partition", "no such partition", where="partition", found=partition, expected=expected)
    plan = make_plan(data, config, root=root, wanted=range(partition, sys.maxsize, num_partitions))
    if partition == 0:
        for warning in plan.layout.warnings:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
    if is_complete(plan):
        print(f"preprocess: reused data/{plan.key}")
        return plan.key
    plan.storage.remove_partials()
    mine = [shard for shard in plan.layout.shards if shard.packed]
    sizes = plan.storage.sizes()
    pending = [shard for shard in mine if finished_record(plan.storage, shard, sizes=sizes) is None]
    if len(pending) < len(mine):
        print(f"preprocess: {len(mine) - len(pending)} of {len(mine)} shards are already in data/{plan.key}")

    spec = ReaderSpec(
        plan.layout.films, plan.layout.pathologies, config.pixels, config.limits, plan.ids, config.section_reader
    )
    studies = itertools.chain.from_iterable(shard.studies() for shard in pending)
    with contextlib.closing(read_studies(studies, spec=spec, num_workers=config.num_workers)) as read:
        results = track(
            read,
            total=sum(shard.num_films for shard in pending),
            what="preprocess",
            unit="films",
            size=lambda result: len(result.rows) + len(result.rejects),
        )
        for shard in pending:
            _write(plan, shard, itertools.islice(results, shard.num_studies))
        next(results, None)  # lets progress and workers finish
    return plan.key


def is_complete(plan: Plan) -> bool:
    """Whether the manifest and everything it lists are there; a manifest that lists what is gone is removed."""
    sizes = plan.storage.sizes()
    if MANIFEST not in sizes:
        return False
    manifest = load_manifest(plan.storage).manifest
    if REJECTS in sizes and all(sizes.get(shard.name) == shard.bytes for shard in manifest.shards):
        return True
    plan.storage.delete(MANIFEST)
    return False


def _write(plan: Plan, shard: ShardPlan, studies: Iterator[StudyRows]) -> None:
    """Write one shard while its studies are read, then its record, which marks it as done."""
    tally = Tally(plan.layout.pathologies)
    rows, info = tally.rows(studies), None
    first = next(rows, None)
    if first is not None:
        rows = itertools.chain([first], rows)
        with plan.storage.writing(shard.name) as path:
            info = write_shard(
                path, rows, pathologies=plan.layout.pathologies, preset=plan.config.pixels, name=shard.name
            )
    write_record(plan.storage, shard, tally.record(info))
