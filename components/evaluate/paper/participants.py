"""Who is in the data set, and who is not: the flow from source to splits, and Table 1.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.cxr.labels import POSITIVE, UNCERTAIN
from components.cxr.shards import SPLITS, LoadedManifest, label_states, read_shard
from components.cxr.storage.parquet import parquet_table
from components.evaluate.paper.table import PaperTable

__all__ = ["Flow", "flow_of", "table_one"]

_REJECTS = "rejects.parquet"
_SEXES = {"F": "Female", "M": "Male"}
_COMMON = 10
"""Patients with a race or insurance from which it has a row: fewer could point at a patient."""


class Flow(NamedTuple):
    """What became of every film and study of the source."""

    read: int
    """Films that were looked at: kept and rejected ones."""
    rejected: dict[str, int]
    """Films by the reason's code."""
    left_out: dict[str, int]
    """What else the source lists, by reason."""
    splits: dict[str, dict[str, int]]
    """patients, studies, films and labeled studies, by split."""


def flow_of(loaded: LoadedManifest) -> Flow:
    """From the manifest and the list of rejects."""
    manifest = loaded.manifest
    codes: Counter[str] = Counter()
    if manifest.num_rejects:
        table = parquet_table(loaded.storage.read(_REJECTS).data, columns=["code"])
        codes = Counter(table.column("code").to_pylist())
    splits = {
        split: {
            "patients": count.patients, "studies": count.studies,
            "films": count.images, "labeled studies": count.labeled_studies,
        }
        for split in SPLITS
        if (count := manifest.counts.get(split)) is not None
    }  # fmt: skip
    kept = sum(counts["films"] for counts in splits.values())
    return Flow(kept + manifest.num_rejects, dict(codes.most_common()), dict(manifest.left_out), splits)


class _Split(NamedTuple):
    """The studies of one split; of their metadata those of the first film."""

    patients: list[str]
    columns: dict[str, list[Any]]
    states_SP: npt.NDArray[np.int8]
    labeled_S: npt.NDArray[np.bool_]
    num_films: int


def table_one(loaded: LoadedManifest) -> PaperTable:
    """Patients, studies, films, age, sex, view, race and insurance where given, and label prevalences, by split."""
    splits = {split: _read(loaded, split) for split in SPLITS if loaded.manifest.shards_of(split)}
    rows: list[tuple[str, ...]] = []

    def add(title: str, cells: Sequence[str]) -> None:
        rows.append((title, *cells))

    every = list(splits.values())
    add("Patients, n", [f"{len(set(split.patients)):,}" for split in every])
    add("Studies, n", [f"{len(split.patients):,}" for split in every])
    add("Films, n", [f"{split.num_films:,}" for split in every])
    add("Age in years, mean (SD)", [_age(split) for split in every])
    add(
        "Age unknown, studies (%)",
        [_share(sum(a is None for a in s.columns["age_years"]), len(s.patients)) for s in every],
    )
    for sex, title in _SEXES.items():
        add(f"{title}, studies (%)", [_share(s.columns["sex"].count(sex), len(s.patients)) for s in every])
    for column in ("race", "insurance"):
        for value in _common(every, column):
            add(
                f"{column.capitalize()}: {value}, studies (%)",
                [_share(s.columns[column].count(value), len(s.patients)) for s in every],
            )
    for view in sorted({v for s in every for v in s.columns["view_position"] if v}):
        add(
            f"First film {view}, studies (%)",
            [_share(s.columns["view_position"].count(view), len(s.patients)) for s in every],
        )
    add(
        "With indication, studies (%)",
        [_share(sum(bool(t) for t in s.columns["text_indication"]), len(s.patients)) for s in every],
    )
    add("Labeled studies, n (%)", [_share(int(s.labeled_S.sum()), len(s.patients)) for s in every])
    for p, name in enumerate(loaded.manifest.pathologies):
        cells = []
        for split in every:
            state_S = split.states_SP[split.labeled_S, p]
            counts = ((state_S == POSITIVE).sum(), (state_S == UNCERTAIN).sum())
            cells.append(f"{_share(int(counts[0]), len(state_S))}; {_share(int(counts[1]), len(state_S))}")
        add(name, cells)
    return PaperTable(
        "characteristics",
        "Characteristics of patients and studies by split",
        ("", *(split.capitalize() for split in splits)),
        rows,
        "Age, sex, view, race and insurance are those of a study's first film. Findings: labeled studies that are "
        "positive, n (%); uncertain, n (%). A race or insurance of fewer than ten patients has no row.",
    )


def _read(loaded: LoadedManifest, split: str) -> _Split:
    names = (
        "study_id",
        "patient_id",
        "view_position",
        "labeled",
        "age_years",
        "sex",
        "race",
        "insurance",
        "text_indication",
    )
    shards = loaded.manifest.shards_of(split)
    tables = [read_shard(loaded.storage, shard, columns=[*names, *loaded.manifest.pathologies]) for shard in shards]
    table = pa.concat_tables(tables)
    _, first_S = np.unique(table.column("study_id").to_numpy(zero_copy_only=False), return_index=True)
    num_films = len(table)
    table = table.take(pa.array(np.sort(first_S)))
    columns = {name: table.column(name).to_pylist() for name in names}
    return _Split(
        columns["patient_id"],
        columns,
        label_states(table, loaded.manifest.pathologies),
        np.array(columns["labeled"], dtype=bool),
        num_films,
    )


def _age(split: _Split) -> str:
    ages = np.array([age for age in split.columns["age_years"] if age is not None], dtype=float)
    return f"{ages.mean():.1f} ({ages.std(ddof=1):.1f})" if len(ages) > 1 else "–"


def _common(splits: Sequence[_Split], column: str) -> list[str]:
    patients = {(value, patient) for s in splits for value, patient in zip(s.columns[column], s.patients, strict=True)}
    counts = Counter(value for value, _ in patients if value)
    return sorted(value for value, count in counts.items() if count >= _COMMON)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})".replace("%)", ")") if whole else f"{part:,}"
