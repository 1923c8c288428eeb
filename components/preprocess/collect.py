"""Step 1, the end: check that every shard is there, merge what was rejected, and write the manifest last."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from components.cxr.errors import UserError
from components.cxr.shards import (
    SCHEMA_VERSION,
    SPLITS,
    LoadedManifest,
    Manifest,
    SplitCounts,
    load_manifest,
    write_manifest,
)
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root
from components.preprocess.config import DataConfig, PreprocessConfig
from components.preprocess.plan import REJECTS, Plan, make_plan
from components.preprocess.preprocess import is_complete
from components.preprocess.sidecar import STATES, RejectedFilm, ShardRecord, finished_record

__all__ = ["collect", "read_rejects"]

_REJECTS_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in RejectedFilm.model_fields])

_HEADER_AGES = "ages of films' headers that are none from 0 to 130 years"


def collect(data: DataConfig, config: PreprocessConfig, *, root: Root) -> LoadedManifest:
    """Complete the data set that `run_partition` made, and point `latest` at it.

    Raises:
        UserError: shards are missing, too many films were rejected, or none was readable.
    """
    plan = make_plan(data, config, root=root)
    if not is_complete(plan):
        _complete(plan)
    write_pointer(root, "manifest", plan.storage.uri)
    loaded = load_manifest(plan.storage)
    for gap in _gaps(loaded.manifest):
        print(f"preprocess: {gap}", flush=True)
    return loaded


def _gaps(manifest: Manifest) -> Iterator[str]:
    """What a labeled data set lacks, and later steps would miss."""
    training = manifest.counts["train"]
    if not any(counts.labeled_studies for counts in manifest.counts.values()):
        return
    if empty := [split for split in SPLITS if not manifest.counts[split].studies]:
        yield f"no study in {' and '.join(empty)} (data.splits, data.fractions)"
    if not training.labeled_studies:
        return
    positives = {name: labels["positive"] for name, labels in training.labels.items()}
    if never := [name for name, count in positives.items() if not count]:
        yield f"no positive training study of {', '.join(never)}"
    if always := [name for name, count in positives.items() if count == training.labeled_studies]:
        yield f"no training study without {', '.join(always)}: a model cannot tell what it never lacks"


def read_rejects(loaded: LoadedManifest) -> pa.Table:
    """The films that were left out: image_id, source_hash, code, reason (all text)."""
    return parquet_table(loaded.storage.read(REJECTS).data)


def _complete(plan: Plan) -> None:
    sizes = plan.storage.sizes()
    found = [finished_record(plan.storage, shard, sizes=sizes) for shard in plan.layout.shards]
    records = [record for record in found if record is not None]
    if len(records) < len(plan.layout.shards):
        raise UserError(
            "missing-shards",
            "shards are missing",
            where=plan.storage.uri,
            found=f"{len(records)} of {len(plan.layout.shards)} shards",
            expected="all",
            remedy="Run the partitions that failed again; finished shards are kept.",
        )
    rejects = sorted((film for record in records for film in record.rejects), key=lambda film: film.image_id)
    _check_rejects(plan, rejects)
    table = pa.Table.from_pylist([film.model_dump() for film in rejects], schema=_REJECTS_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    plan.storage.write(REJECTS, buffer.getvalue())
    num_bad_ages = sum(record.num_bad_ages for record in records)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        pathologies=plan.layout.pathologies,
        pixel_preset=plan.config.pixels,
        pixel_preset_hash=plan.config.pixels.hash,
        section_reader=plan.config.section_reader,
        config_hash=plan.config_hash,
        source_hash=plan.layout.source_hash,
        id_key_fingerprint=plan.ids.fingerprint,
        deidentified=plan.ids.deidentified,
        counts={split: _count(split, records, plan.layout.pathologies) for split in SPLITS},
        num_rejects=len(rejects),
        left_out=plan.layout.left_out,
        unknown=plan.layout.unknown | ({_HEADER_AGES: num_bad_ages} if num_bad_ages else {}),
        shards=tuple(record.info for record in records if record.info is not None),
    )
    write_manifest(plan.storage, manifest)


def _check_rejects(plan: Plan, rejects: Sequence[RejectedFilm]) -> None:
    num_films, limit = plan.num_films, plan.config.max_reject_fraction
    if len(rejects) <= limit * num_films and len(rejects) < num_films:
        return
    codes = Counter(film.code for film in rejects)
    reasons = ", ".join(f"{code} {count}" for code, count in codes.most_common())
    example = rejects[0]
    raise UserError(
        "too-many-rejects",
        "too many films cannot be used",
        where=plan.layout.where,
        found=f"{len(rejects)} of {num_films} ({reasons}), e.g. path hash {example.source_hash}: {example.reason}",
        expected=f"at most {limit:.2%} (preprocess.max_reject_fraction)",
        remedy="Raise the limit and run the same command again; after repairing films "
        f"delete {plan.storage.uri} before, as films of the same size are not read again.",
    )


def _count(split: str, records: Sequence[ShardRecord], pathologies: Sequence[str]) -> SplitCounts:
    of_split = [(record, record.info) for record in records if record.info is not None and record.info.split == split]
    return SplitCounts(
        patients=len({patient for record, _ in of_split for patient in record.patients}),
        studies=sum(info.studies for _, info in of_split),
        images=sum(info.rows for _, info in of_split),
        labeled_studies=sum(record.labeled_studies for record, _ in of_split),
        labels={
            name: {state: sum(record.labels[name][state] for record, _ in of_split) for state in STATES.values()}
            for name in pathologies
        },
    )
