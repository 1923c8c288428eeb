"""Another reader's labels of the same studies, such as MIMIC-CXR 2.1.0's radiologist's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id, load_id_key
from components.cxr.labels import BLANK
from components.cxr.storage.joins import shape_of
from components.cxr.storage.tables import open_table

__all__ = ["SecondTruth", "read_second_truth"]

_ALIASES = {"Airspace Opacity": "Lung Opacity"}
"""A table's name of a pathology: ours."""


@dataclass(frozen=True)
class SecondTruth:
    """Label states by study."""

    where: str
    """The table, for messages."""
    pathologies: tuple[str, ...]
    """As they were asked for."""
    missing: tuple[str, ...]
    """Those that the table does not have; blank in every study, which says nothing about them."""
    sha256: str
    """Of the table's bytes."""
    states: dict[str, tuple[int | None, ...]] = field(repr=False)
    """By the study's hash: 1, 0, -1 or None (blank), in the order of `pathologies`; under `s50000001` and 50000001."""
    num_studies: int
    """Of the table."""
    id_shape: str
    """How the table writes its ids, with 9 for every digit."""

    def states_of(self, study_ids: Sequence[str]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
        """The states of studies, int8 [S, P] as labels.py has them, and whether the table has the study, bool [S]."""
        blank = (BLANK,) * len(self.pathologies)
        rows = [
            tuple(BLANK if state is None else state for state in self.states[study]) if study in self.states else blank
            for study in study_ids
        ]
        state_SP = np.array(rows, dtype=np.int8).reshape(len(rows), len(self.pathologies))
        return state_SP, np.array([study in self.states for study in study_ids], dtype=bool)


def read_second_truth(
    table: str,
    *,
    pathologies: Sequence[str],
    key: IdKey | None = None,
    id_key_fingerprint: str | None = None,
    user_project: str | None = None,
) -> SecondTruth:
    """Read a CSV table (plain or .gz) with `study_id` and a column per pathology: 1, 0, -1 or nothing, also as 1.0.

    No Finding may be -1 here, which no labeler writes; Airspace Opacity is Lung Opacity. Other columns are ignored.

    Args:
        table: local path or gs:// address.
        key: makes the hashes; from the environment when none is given.
        id_key_fingerprint: of the data set to be joined, from its manifest; None joins without a check.
        user_project: the project billed for a requester-pays bucket.

    Raises:
        UserError: another key than the data set's, a table that cannot be read, no study_id, none of the pathologies,
            a column whose name is almost a pathology's, a bad label, or a study without id or whose rows disagree.
    """
    key = load_id_key() if key is None else key
    if id_key_fingerprint not in (None, key.fingerprint):
        raise UserError(
            "other-id-key",
            "ids were made with another key",
            where=table,
            found=f"fingerprint {key.fingerprint}",
            expected=id_key_fingerprint,
            remedy="Set CXRFLOW_ID_KEY to the key that made the data set, or unset it if there was none.",
        )
    read = open_table(table, user_project=user_project, remedy="Check evaluate.second_truth.table.")
    studies = read.ids("study_id")
    columns = _columns(read.header, pathologies, where=read.where)
    blank: list[int | None] = [None] * len(studies)
    states = [read.states(columns[name]) if name in columns else blank for name in pathologies]
    rows = read.once("study_id", studies, what="study", same=states)
    found = {hash_id("study", studies[i], key): tuple(column[i] for column in states) for i in rows}
    for i in rows:
        if number := re.fullmatch(r"[sS](\d{8})", studies[i]):  # as MIMIC-CXR names the study's folder
            found.setdefault(hash_id("study", number[1], key), tuple(column[i] for column in states))
    missing = tuple(name for name in pathologies if name not in columns)
    return SecondTruth(
        read.where, tuple(pathologies), missing, read.sha256, found, len(rows), shape_of(studies[i] for i in rows)
    )


def _columns(header: Sequence[str], pathologies: Sequence[str], *, where: str) -> dict[str, str]:
    """The table's column of each pathology that it has."""
    columns: dict[str, str] = {}
    for name in header:
        pathology = _ALIASES.get(name, name) if name not in pathologies else name
        if pathology in columns:
            raise UserError(
                "duplicate-column", "table has a pathology twice", where=where, found=f"{columns[pathology]} and {name}"
            )
        if pathology in pathologies:
            columns[pathology] = name
    missing = {_plain(name): name for name in pathologies if name not in columns}
    for name in header:
        if name not in columns.values() and (
            close := difflib.get_close_matches(_plain(name), missing, n=1, cutoff=0.8)
        ):
            expected = missing[close[0]]
            remedy = "Rename the column; one that means something else needs another name."
            raise UserError(
                "misspelled-pathology",
                "column is almost a pathology",
                where=where,
                found=name,
                expected=expected,
                remedy=remedy,
            )
    if not columns:
        expected = "a column for at least one of " + ", ".join(pathologies)
        raise UserError(
            "no-label-column", "table has no label column", where=where, found=", ".join(header), expected=expected
        )
    return columns


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ")
