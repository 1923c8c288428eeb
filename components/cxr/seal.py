"""`seal.json`: the SHA-256 of every file that a server answers from, written by evaluate and again by deploy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from components.cxr.bundle_info import is_bundle_file
from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.film_check import FILM_CHECK
from components.cxr.operating_points import MODEL_CARD, OPERATING_POINTS
from components.cxr.self_check import SELF_CHECK
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import Storage

__all__ = ["SEAL", "Seal", "check_files", "left_by_evaluate", "load_seal", "sealed", "write_seal"]

SCHEMA_VERSION = 1
SEAL = "seal.json"
REMEDY = "Run deploy again, which makes a damaged copy anew; or evaluate an undamaged bundle."


class Seal(Config):
    """`seal.json`."""

    schema_version: int = SCHEMA_VERSION
    files: dict[str, str]
    """By name within the bundle's or the evaluation's folder, 64 hex digits."""

    @property
    def hash(self) -> str:
        """SHA-256 of the seal itself, which a deployment names."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


def sealed(files: Mapping[str, str], evaluation: Storage, *, names: tuple[str, ...]) -> Seal:
    """The seal of a bundle with an evaluation.

    Args:
        files: of the bundle (bundle_info.file_hashes).
        evaluation: folder of the other files.
        names: the other files.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    return Seal(files={**files, **{name: hashlib.sha256(evaluation.read(name).data).hexdigest() for name in names}})


def write_seal(evaluation: Storage, files: Mapping[str, str], *, more: tuple[str, ...] = ()) -> Seal:
    """Seal a bundle's files with what evaluation has left in a folder, and write it there.

    That is the operating points, the model card, the self-check and, if there is one, the check of films.

    Args:
        files: of the bundle (bundle_info.file_hashes).
        more: further files of that folder.
    """
    seal = sealed(files, evaluation, names=(*left_by_evaluate(evaluation), *more))
    data = json.dumps(seal.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    evaluation.write(SEAL, data.encode())
    return seal


def left_by_evaluate(evaluation: Storage) -> tuple[str, ...]:
    """The files of an evaluation's folder that a server answers by."""
    check = (FILM_CHECK,) if evaluation.exists(FILM_CHECK) else ()
    return (OPERATING_POINTS, MODEL_CARD, SELF_CHECK, *check)


def load_seal(storage: Storage, *, expected: str | None = None) -> Seal:
    """Read the seal in an evaluation's or a deployed bundle's folder.

    Args:
        expected: its hash, by current.json; None for any.

    Raises:
        UserError: none here, another schema version, or not the expected one.
    """
    where = f"{storage.uri}/{SEAL}"
    try:
        data = storage.read(SEAL).data
    except FileNotFoundError:
        remedy = "Run evaluate, and name its folder with --evaluation; or deploy again."
        raise UserError("no-seal", "no sealed operating points here", where=where, remedy=remedy) from None
    seal = Seal.parse(read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="evaluate"), where=where)
    if expected is not None and seal.hash != expected:
        what, found = "another seal than the deployed one", seal.hash[:16]
        raise UserError("other-seal", what, where=where, found=found, expected=expected[:16], remedy=REMEDY)
    return seal


def check_files(seal: Seal, files: Mapping[str, str], *, bundle: str, evaluation: Storage) -> None:
    """Compare every file with the seal.

    Args:
        files: of the bundle (bundle_info.file_hashes).
        bundle: its URI, for the message.
        evaluation: folder of the other files.

    Raises:
        UserError: the first file that is missing, was changed, or was added to the bundle.
    """
    for name in sorted({*files, *seal.files}):
        expected = seal.files.get(name)
        found = files.get(name) if is_bundle_file(name) else _sha256(evaluation, name)
        if found != expected:
            folder = bundle if is_bundle_file(name) else evaluation.uri
            raise UserError(
                "broken-seal",
                "a file is not the one that was sealed",
                where=f"{folder}/{name}",
                found=f"SHA-256 {found[:16]}" if found else "no file",
                expected=f"SHA-256 {expected[:16]}" if expected else "no such file",
                remedy=REMEDY,
            )


def _sha256(storage: Storage, name: str) -> str | None:
    try:
        return hashlib.sha256(storage.read(name).data).hexdigest()
    except FileNotFoundError:
        return None
