"""KFP artifacts as pointers: a small file that names a folder under `root`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from components.cxr.errors import UserError
from components.cxr.storage.pointers import pointed_at
from components.cxr.storage.storage import Storage, open_storage
from components.cxr.tracking.identity import PIPELINE_RUN

__all__ = ["Artifact", "clean_exit", "point", "pointed"]


class Artifact(Protocol):
    """What is used of kfp.dsl.Artifact."""

    path: str
    metadata: dict[str, Any]


def point(artifact: Artifact, storage: Storage, **metadata: str | int | float | None) -> None:
    """Let an output artifact name a folder; the metadata shows in KFP's UI."""
    Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
    Path(artifact.path).write_text(json.dumps({"uri": storage.uri, **metadata}) + "\n")
    artifact.metadata.update({"uri": storage.uri, **metadata})


def pointed(artifact: Artifact) -> Storage:
    """The folder that an input artifact names.

    Raises:
        UserError: the artifact is missing or damaged.
    """
    remedy = "Run the step that makes it again."
    try:
        data = Path(artifact.path).read_bytes()
    except FileNotFoundError:
        data = b""
    return open_storage(pointed_at(data, "uri", where=artifact.path, remedy=remedy))


@contextlib.contextmanager
def clean_exit(pipeline_run: str = "") -> Iterator[None]:
    """End the container with one line and code 2 instead of a traceback for a user's mistake.

    Args:
        pipeline_run: id of the pipeline's run, which MLflow's runs are tagged with.
    """
    if pipeline_run:
        os.environ[PIPELINE_RUN] = pipeline_run
    try:
        yield
    except UserError as error:
        print(error.line, file=sys.stderr, flush=True)
        raise SystemExit(2) from None
