"""What MLflow could not be told: kept in order under the root, and sent by the next step that finds MLflow there."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.cxr.bundle_info import BUNDLE, local_folder
from components.cxr.storage.storage import Root, Storage, open_storage
from components.cxr.tracking.mlflow_server import warn
from components.cxr.tracking.registry import Registration, challenger_version, register_model
from components.cxr.tracking.tracking import joined_run

if TYPE_CHECKING:
    from components.cxr.tracking.tracked_run import TrackedRun

__all__ = ["Outbox", "send_outboxes"]

RUN = "run.json"
"""The run that everything is of, written first and deleted last."""


class Outbox:
    """What was missed of one run, an object each. The same step again misses the same again, so it begins anew.

    Args:
        key: whose outbox, such as an evaluation's key.
        run: the arguments of joined_run, `is_given` among them.
    """

    def __init__(self, root: Root, key: str, **run: str | bool | None) -> None:
        self._storage, self._run, self._count = _boxes(root).child(key), run, 0

    def add(self, kind: str, payload: Any, data: bytes | None = None) -> None:
        """Keep what could not be sent.

        Args:
            kind: the method of TrackedRun, or `model`.
            payload: its arguments as JSON values.
            data: a file's bytes.
        """
        if self._count == 0:
            for old in self._storage.sizes():
                self._storage.delete(old)
            self._storage.write(RUN, json.dumps(self._run).encode())
        name, self._count = f"{self._count:05}-{kind}", self._count + 1
        if data is not None:
            self._storage.write(f"{name}.bin", data)
        self._storage.write(f"{name}.json", json.dumps(payload).encode())


def send_outboxes(root: Root, step: str) -> dict[str, Registration]:
    """Send what earlier steps could not, oldest first; what still cannot be sent stays.

    Args:
        step: that sends, for the line it prints.

    Returns:
        What was registered, by the evaluation's folder.
    """
    boxes = _boxes(root)
    registered: dict[str, Registration] = {}
    for name in sorted(path.removesuffix(f"/{RUN}") for path in boxes.sizes() if path.endswith(f"/{RUN}")):
        box = boxes.child(name)
        try:
            about = json.loads(box.read(RUN).data)
        except FileNotFoundError:  # another step has sent it meanwhile
            continue
        with joined_run(root, **about) as tracked:
            if tracked.id is None or not _send(tracked, box, registered):
                return registered
        with contextlib.suppress(FileNotFoundError):
            box.delete(RUN)
        print(f"{step}: told MLflow what it missed, outbox/{name}", flush=True)
    return registered


def _boxes(root: Root) -> Storage:
    return root.storage.child("outbox")


def _send(tracked: TrackedRun, box: Storage, registered: dict[str, Registration]) -> bool:
    model_id: str | None = None
    for name in sorted(path for path in box.sizes() if path.endswith(".json") and path != RUN):
        kind, file = name.removesuffix(".json").partition("-")[2], name.removesuffix(".json") + ".bin"
        try:
            payload = json.loads(box.read(name).data)
            data = box.read(file).data if kind == "file" else b""
        except FileNotFoundError:  # another step has sent it meanwhile
            continue
        if kind == "model":
            registration = _register(tracked, payload)
            if registration is not None:
                model_id, registered[payload["evaluation"]] = registration.model_id, registration
        elif kind == "file":
            tracked.file(data, **payload)
        elif kind == "scores":
            tracked.send_scores(**payload | {"model_id": payload["model_id"] or model_id})
        else:
            getattr(tracked, kind)(**payload)
        if tracked.missed:
            return False
        with contextlib.suppress(FileNotFoundError):
            box.delete(name)
            if kind == "file":
                box.delete(file)
    return True


def _register(tracked: TrackedRun, payload: dict[str, Any]) -> Registration | None:
    """As register_model; None, too, where bundle or evaluation were deleted or moved meanwhile."""
    bundle, evaluation = open_storage(payload.pop("bundle")), open_storage(payload["evaluation"])
    files = payload.pop("files")
    if not bundle.exists(BUNDLE) or not all(evaluation.exists(name) for name in files):
        warn(f"the model of {evaluation.uri} is no longer there and is not registered")
        return None
    with local_folder(bundle) as folder, tempfile.TemporaryDirectory() as temporary:
        for name in files:
            evaluation.download(name, Path(temporary, name))
        artifacts = {"bundle": folder, "evaluation": Path(temporary)}
        wanted = {name: value for name, value in payload.items() if name != "evaluation"}
        now = challenger_version(tracked, payload["name"])
        return register_model(tracked, **wanted, artifacts=artifacts, instead_of=now)
