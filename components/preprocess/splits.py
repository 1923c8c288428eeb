"""Which split a patient belongs to: by keyed hash, and never to two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_fraction, hash_id
from components.preprocess.config import SplitName

__all__ = ["check_patients", "split_by_hash"]


def split_by_hash(patient: str, *, fractions: Mapping[SplitName, float], key: IdKey) -> str:
    """The split of a patient; each split gets about its share of the patients, which sum to 1.

    >>> split_by_hash("10000032", fractions={"train": 0.8, "validate": 0.1, "test": 0.1}, key=IdKey(None))
    'validate'
    """
    position = hash_fraction("split", patient, key)
    total = 0.0
    for split in get_args(SplitName):
        total += fractions.get(split, 0.0)
        if position < total:
            return str(split)
    return max(fractions, key=lambda split: fractions[split])


def check_patients(films: Iterable[tuple[str, str]], *, where: str, key: IdKey) -> None:
    """Check (patient, split) pairs.

    Raises:
        UserError: a patient is in two splits; the message holds the patient's hash.
    """
    split_of: dict[str, str] = {}
    for patient, split in films:
        if split_of.setdefault(patient, split) != split:
            raise UserError(
                "patient-in-two-splits",
                "a patient is in two splits",
                where=where,
                found=f"patient {hash_id('patient', patient, key)} in {split_of[patient]} and {split}",
                expected="all films of a patient in one split",
                remedy="Fix the split column, or leave it out to split by patient.",
            )
