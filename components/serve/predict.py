"""`python -m components.serve predict`: a served model's answers for the studies of a folder or a PACS, as one table.

The answers are the server's: films, text and limits go the same way. Work is kept in parts beside the table until it
is whole, so that a killed command goes on where it was.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.progress import track
from components.cxr.seal import Seal, load_seal
from components.cxr.self_check import SELF_CHECK
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.storage import Storage, open_storage
from components.serve.config import ServeConfig
from components.serve.predict_parts import Model, predicted_parts
from components.serve.self_check import UNCHECKED
from components.serve.studies import FoundStudies
from components.serve.told import ToldTable, read_told

__all__ = ["predict_studies"]

VERSION = 2
"""Of the table: another one starts anew."""
_PART = 16
"""Studies of a part: what a kill may cost each process."""
_STARTED = "started"
"""File beside the parts that says of what they are."""


def predict_studies(
    config: ServeConfig,
    *,
    model: Model,
    find: Callable[[], FoundStudies],
    out: str,
    num_processes: int,
    table: str | None = None,
) -> pa.Table:
    """Answer for every study that is found and write the table, whole or not at all; and return it.

    Args:
        find: looks in a folder or a PACS, after model and output were looked at.
        out: file to write, local or gs://.
        num_processes: each with a model of its own; with 1 this process answers.
        table: of texts, ages and sexes, see read_told; a cell there goes before a text file or a header.

    Raises:
        UserError: `find`'s, a table that cannot be read, another output in the way, no usable model, a PACS that fails,
            a process that was killed, or another one that has begun another table in the same place.
    """
    place, name = _place(out)
    seal = load_seal(open_storage(model.evaluation or model.bundle), expected=model.seal)
    found = find()
    told = None if table is None else read_told(table, studies={study.name for study in found.studies})
    key = _key(config, model, seal, found, told)
    if place.exists(name):
        finished = _finished(place, name, key)
        print(f"predict: {out} is complete already", flush=True)
        return finished
    if SELF_CHECK not in seal.files:
        print(f"predict: {UNCHECKED}", flush=True)
    parts = place.child(f"{name}.parts")
    done = _resumed(parts, key)
    starts = range(0, len(found.studies), _PART)
    batches = [(i, found.studies[start : start + _PART]) for i, start in enumerate(starts)]
    wanted = [(i, studies) for i, studies in batches if _part_name(i) not in done]
    total = sum(len(studies) for _, studies in wanted)
    if done:
        print(f"predict: goes on with {total} of {len(found.studies)} studies", flush=True)
    work = predicted_parts(
        wanted,
        config=config,
        model=model,
        open_files=found.open_files,
        num_processes=num_processes,
        told={} if told is None else told.by_study,
    )
    try:
        for i, part in track(work, total=total, what="predict", unit="studies", size=lambda item: item[1].num_rows):
            _check_ours(parts, key, out=out)
            parts.write(_part_name(i), _bytes(part))
        tables = [parquet_table(parts.read(_part_name(i)).data) for i, _ in batches]
    except FileNotFoundError:  # another process was at the same table: it has finished, and tidied up
        answers = _finished(place, name, key)
    else:
        answers = pa.concat_tables(tables).replace_schema_metadata({**tables[0].schema.metadata, b"key": key.encode()})
        place.write(name, _bytes(answers))
    parts.delete_all()
    if parts.folder is not None:
        with contextlib.suppress(OSError):  # another process still writes there, or has removed it
            parts.folder.rmdir()
    _tell(answers, found, out)
    return answers


def _place(out: str) -> tuple[Storage, str]:
    """The folder of a file, and its name."""
    folder, _, name = out.rpartition("/")
    if not name.endswith(".parquet") or (out.startswith("gs://") and "/" not in out.removeprefix("gs://")):
        raise UserError(
            "bad-output", "the output is no Parquet file", where="--out", found=out, expected="a name.parquet"
        )
    return open_storage(folder or ("/" if out.startswith("/") else ".")), name


def _key(config: ServeConfig, model: Model, seal: Seal, found: FoundStudies, told: ToldTable | None) -> str:
    """What decides the answers: the sealed model, limits, names and sizes of the studies' files, and what is told."""
    limits = config.model_dump_json(include={"limits", "max_files", "max_file_bytes", "max_text_chars"})
    none = [f"{study.name}\0{study.reason}" for study in found.studies if study.reason is not None]
    files = none + [
        f"{study.name}\0{name}\0{found.sizes.get(name, '')}"
        for study in found.studies
        for name in (*study.films, *((study.text,) if study.text else ()))
    ]
    table = "" if told is None else told.sha256
    return content_hash(str(VERSION), seal.hash, model.version or "", limits, found.where, "\n".join(files), table)


def _finished(place: Storage, name: str, key: str) -> pa.Table:
    """The table that is there, if it is the wanted one."""
    try:
        table = parquet_table(place.read(name).data)
    except pa.ArrowInvalid:
        table = None
    if table is None or (table.schema.metadata or {}).get(b"key") != key.encode():
        raise UserError(
            "output-not-ours",
            "there is another table already",
            where=f"{place.uri}/{name}",
            found="of other films or another model",
            expected="nothing, or this one",
            remedy="Move it away, or choose another --out.",
        )
    return table


def _resumed(parts: Storage, key: str) -> set[str]:
    """The parts that are there; those of other films or another model are deleted."""
    present = parts.sizes()
    if present and (_STARTED not in present or parts.read(_STARTED).data != key.encode()):
        print("predict: films, model or limits are others than those that it began with: starts anew", flush=True)
        parts.delete_all()
        present = {}
    parts.remove_partials()
    parts.write(_STARTED, key.encode())
    return set(present) - {_STARTED}


def _check_ours(parts: Storage, key: str, *, out: str) -> None:
    """Refuse to mix with the parts of another process that has begun another table in the same place."""
    if parts.read(_STARTED).data != key.encode():
        raise UserError(
            "output-in-use",
            "another process has begun a table of other films, of another model or with other limits",
            where=out,
            expected="one process for it at a time",
            remedy="Wait for it, or choose another --out.",
        )


def _part_name(number: int) -> str:
    return f"{number:06}.parquet"


def _bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _tell(table: pa.Table, found: FoundStudies, out: str) -> None:
    """What came of it; reasons and counts alone, as names and ids may be a patient's."""
    unanswered = Counter(reason for reason in table["reason"].to_pylist() if reason)
    films = Counter(reason for reasons in table["left_out_reasons"].to_pylist() for reason in reasons)
    print(f"predict: {table.num_rows - unanswered.total()} of {table.num_rows} studies answered, in {out}", flush=True)
    for what, reasons in (("studies without an answer", unanswered), ("films left out", films)):
        for reason, count in reasons.most_common():
            print(f"predict: {what}: {count} {reason}", flush=True)
    for reason, count in found.left_out.items():
        print(f"predict: left out: {count} {reason}", flush=True)
