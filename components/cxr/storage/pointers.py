"""Small files that name another one; those under `<root>/latest/` serve command lines that are given no result."""

from __future__ import annotations

import json
from typing import Literal

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root

__all__ = ["pointed_at", "read_pointer", "write_pointer"]

Result = Literal["manifest", "bundle", "evaluation"]


def write_pointer(root: Root, result: Result, uri: str) -> None:
    """Point at the folder of the newest result."""
    root.latest().write(f"{result}.json", (json.dumps({"uri": uri}) + "\n").encode())


def read_pointer(root: Root, result: Result, *, made_by: str) -> str:
    """URI of the newest result's folder.

    Raises:
        UserError: no step has written one under this root, or it is damaged.
    """
    latest = root.latest()
    where = f"{latest.uri}/{result}.json"
    try:
        data = latest.read(f"{result}.json").data
    except FileNotFoundError:
        raise UserError(
            "no-pointer", f"no {result} here", where=where, remedy=f"Run {made_by} first, or pass --{result}."
        ) from None
    return pointed_at(data, "uri", where=where, remedy=f"Delete it and run {made_by} again.")


def pointed_at(data: bytes, field: str, *, where: object, remedy: str) -> str:
    """The text in one field of a pointer's JSON.

    Raises:
        UserError: the file is empty, cut off or something else.

    Example:
        >>> pointed_at(b'{"uri": "runs/demo/data/1f"}', "uri", where="latest/manifest.json", remedy="")
        'runs/demo/data/1f'
    """
    try:
        found = json.loads(data)[field]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str) or not found:
        size = "an empty file" if not data.strip() else f"{len(data)} bytes without it"
        raise UserError(
            "damaged-pointer", "damaged pointer", where=where, found=size, expected=f"JSON with {field}", remedy=remedy
        )
    return found
