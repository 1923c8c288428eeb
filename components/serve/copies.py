"""Deployed copies: a bundle and what is served of one evaluation side by side, made whole and sealed."""

from __future__ import annotations

from collections.abc import Mapping

from components.cxr.bundle_info import file_hashes, is_bundle_file, local_folder
from components.cxr.errors import UserError
from components.cxr.report import REPORT
from components.cxr.seal import SEAL, Seal, check_files, left_by_evaluate, load_seal, sealed, write_seal
from components.cxr.self_check import SELF_CHECK
from components.cxr.storage.storage import Storage

__all__ = ["SIGNATURE", "check_copy", "make_copy", "seal_of_copy"]

SIGNATURE = "seal.sig"
"""Of the copy's seal, where someone has signed it (signature.py)."""


def make_copy(bundle: Storage, evaluation: Storage, target: Storage, *, expected: str | None = None) -> Seal:
    """Copy a bundle and its evaluation into one folder, over whatever is left there, and check the copy.

    Args:
        expected: hash of the copy's seal; None for a first copy.

    Raises:
        UserError: the originals are not as evaluate sealed them, or would give another copy. Then nothing is written.
    """
    with local_folder(bundle) as folder:
        files = file_hashes(folder)
        original = load_seal(evaluation)
        if SELF_CHECK not in original.files:
            raise UserError(
                "no-self-check",
                "the evaluation has no synthetic studies for servers to check themselves by",
                where=evaluation.uri,
                expected=SELF_CHECK,
                remedy="Run evaluate again with this version.",
            )
        check_files(original, files, bundle=bundle.uri, evaluation=evaluation)
        seal = seal_of_copy(files, evaluation)
        if expected is not None and seal.hash != expected:
            raise UserError(
                "other-original",
                "the deployed copy cannot be made again: its originals are others now",
                where=f"{bundle.uri}, {evaluation.uri}",
                found=seal.hash[:16],
                expected=expected[:16],
                remedy="Restore them, or promote another model.",
            )
        target.remove_partials()
        for name in target.sizes():
            if name != SEAL and name not in seal.files:
                target.delete(name)
        for name in seal.files:
            if is_bundle_file(name):
                target.upload(folder / name, name)
    for name in (*left_by_evaluate(evaluation), REPORT):
        target.write(name, evaluation.read(name).data)
    if evaluation.exists(SIGNATURE):
        target.write(SIGNATURE, evaluation.read(SIGNATURE).data)
    write_seal(target, files, more=(REPORT,))
    check_copy(target, seal=seal.hash)
    return seal


def seal_of_copy(files: Mapping[str, str], evaluation: Storage) -> Seal:
    """The seal of a copy of a bundle's files (bundle_info.file_hashes) and an evaluation.

    Raises:
        UserError: the evaluation lacks a file.
    """
    names = (*left_by_evaluate(evaluation), REPORT)
    try:
        return sealed(files, evaluation, names=names)
    except FileNotFoundError:
        expected = ", ".join(names)
        raise UserError(
            "no-evaluation",
            "no complete evaluation here",
            where=evaluation.uri,
            expected=expected,
            remedy="Run evaluate.",
        ) from None


def check_copy(copy: Storage, *, seal: str) -> None:
    """Refuse a copy that is not whole.

    Args:
        seal: hash of its seal, by current.json.

    Raises:
        UserError: the first file that is not as it was sealed.
    """
    found = load_seal(copy, expected=seal)
    with local_folder(copy) as folder:
        check_files(found, file_hashes(folder), bundle=copy.uri, evaluation=copy)
