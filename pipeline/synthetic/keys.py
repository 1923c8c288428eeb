"""Random generators and identifiers derived from (seed, what, which)."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np

__all__ = ["MAX_STUDIES_PER_PATIENT", "Stream", "dicom_id", "generator", "study_id", "subject_id", "uid"]

MAX_STUDIES_PER_PATIENT = 8


class Stream(IntEnum):
    """What a generator is for; streams never share numbers, so one part can change without moving another."""

    IDENTITY = 1
    PATIENT = 2
    ANATOMY = 3
    HISTORY = 4
    PLACE = 5
    ORDER = 6
    SHAPE = 7
    FILM = 8
    STORAGE = 9
    INDICATION = 10
    READER = 11
    WORDS = 12
    GAPS = 13
    NOISE = 14
    CONFOUNDER = 15
    MIMIC = 16


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments: not on order, process or number of studies."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(stream), *key]))


def _scatter(seed: int, number: int, which: int) -> int:
    """Map `number` in [0, 1e7) to another number there, one to one (an affine bijection drawn from the seed)."""
    rng = generator(seed, Stream.IDENTITY, which)
    factor = int(rng.integers(100_000, 999_999)) * 10 + 7  # ends in 7, so it shares no factor with 10**7
    return (factor * number + int(rng.integers(10_000_000))) % 10_000_000


def subject_id(seed: int, patient: int) -> int:
    """Eight digits that begin with 1, as in MIMIC-CXR; unique within a seed."""
    return 10_000_000 + _scatter(seed, patient, 1)


def study_id(seed: int, patient: int, study: int) -> int:
    """Eight digits that begin with 5, as in MIMIC-CXR; unique within a seed."""
    return 50_000_000 + _scatter(seed, patient * MAX_STUDIES_PER_PATIENT + study, 5) % 10_000_000


def _digest(seed: int, *key: int | str) -> bytes:
    return hashlib.sha256("/".join(map(str, ("cxrflow-synthetic", seed, *key))).encode()).digest()


def dicom_id(seed: int, study: int, image: int) -> str:
    """Forty hexadecimal digits in five groups of eight, as MIMIC-CXR names its films."""
    digits = _digest(seed, "film", study, image).hex()
    return "-".join(digits[8 * group : 8 * group + 8] for group in range(5))


def uid(seed: int, *key: int | str) -> str:
    """A DICOM UID of the 2.25 root (PS3.5 B.2), at most 44 characters."""
    return f"2.25.{int.from_bytes(_digest(seed, 'uid', *key)[:16], 'big')}"
