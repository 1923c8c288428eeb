"""Where pretrained weights come from: what is in a folder or a hub id, whatever its name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture
from components.cxr.storage.storage import open_storage

__all__ = ["by_content", "hub_config", "missing_weights"]


def by_content(architecture: Architecture) -> Architecture:
    """The architecture with the hash of pretrained files for their name: moved weights are the same, others are not.

    A hub id becomes the commit that it stands for.

    Raises:
        UserError: no such weights here.
    """
    changes = {}
    for name, encoder in (("vision", architecture.vision), ("text", architecture.text)):
        if encoder.pretrained is not None:
            content = _content(encoder.pretrained, where=f"train.architecture.{name}")
            changes[name] = encoder.model_copy(update={"pretrained": content})
    return architecture.model_copy(update=changes)


def _content(source: str, *, where: str) -> str:
    """64 hex digits over the names and bytes of a folder's files, or the commit of a hub id."""
    if not source.startswith("gs://") and not Path(source).is_dir():
        commit = getattr(hub_config(source, where=where), "_commit_hash", None)
        return f"{source}@{commit}"
    storage, digest = open_storage(source), hashlib.sha256()
    names = [name for name in storage.sizes() if not name.startswith(".")]
    if not names:
        raise missing_weights(source, where=where)
    for name in names:
        digest.update(f"{name} {hashlib.sha256(storage.read(name).data).hexdigest()}\n".encode())
    return digest.hexdigest()


def hub_config(source: str, *, where: str) -> Any:
    """The configuration of a folder here or of a hub id.

    Raises:
        UserError: no such weights here.
    """
    from transformers import AutoConfig  # a second, which a folder's content does not need

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)  # or it asks on the terminal
    except (OSError, ValueError):
        raise missing_weights(source, where=where) from None


def missing_weights(source: str, *, where: str) -> UserError:
    """The error of a source that has none."""
    return UserError(
        "no-pretrained-weights",
        "no pretrained weights there",
        where=f"{where}.pretrained",
        found=source,
        expected="a folder, a gs:// folder or a hub id of the transformers library",
    )
