"""Pointers under `<root>/latest/` to each step's newest result, for command lines that are given none."""

from __future__ import annotations

import json
from typing import Literal

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root

__all__ = ["read_pointer", "write_pointer"]

Result = Literal["manifest", "bundle", "evaluation"]


def write_pointer(root: Root, result: Result, uri: str) -> None:
    """Point at the folder of the newest result."""
    root.latest().write(f"{result}.json", (json.dumps({"uri": uri}) + "\n").encode())


def read_pointer(root: Root, result: Result, *, made_by: str) -> str:
    """URI of the newest result's folder.

    Raises:
        UserError: no step has written one under this root.
    """
    latest = root.latest()
    try:
        return str(json.loads(latest.read(f"{result}.json").data)["uri"])
    except FileNotFoundError:
        where = f"{latest.uri}/{result}.json"
        raise UserError(
            "no-pointer", f"no {result} here", where=where, remedy=f"Run {made_by} first, or pass --{result}."
        ) from None
