"""`python -m pipeline doctor`: is everything there that a run needs? A line each, and how to fix what is not."""

from __future__ import annotations

import http.client
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple, get_args

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.mlflow_server import tracking_uri, without_secret
from pipeline.config import ImageName, PipelineConfig
from pipeline.endpoint import check_endpoint
from pipeline.places import data_places, found_at
from pipeline.registry import find_image

__all__ = ["Finding", "examine"]

TRACKING, ID_KEY = "MLFLOW_TRACKING_URI", "CXRFLOW_ID_KEY"
TIMEOUT_S = 20


class Finding(NamedTuple):
    """One line of the report."""

    status: Literal["ok", "fail", "?"]
    """?: cannot be told from here."""
    name: str
    text: str
    """What was found, and the fix."""


class _UnknownError(Exception):
    """Cannot be told from here."""


def examine(config: PipelineConfig, *, endpoint: str | None) -> Iterator[Finding]:
    """Look at everything, one after the other.

    Args:
        endpoint: of Kubeflow Pipelines, where the run is to be; None for a run on this machine.
    """
    pods = endpoint is not None
    if endpoint is not None:
        yield _finding("endpoint", lambda: f"{check_endpoint(endpoint)} answers")
    yield _finding("root", partial(_root, config, pods=pods))
    yield _finding("data", partial(_data, config, pods=pods))
    yield _finding("mlflow", partial(_mlflow, config, pods=pods))
    for step in get_args(ImageName):
        yield _finding(f"image {step}", partial(_image, config.platform.image_of(step), pods=pods))
    variables = {env: secret.name for secret in config.platform.secrets for env in secret.env.values()}
    for variable in sorted({ID_KEY, *variables}):
        yield _finding(f"secret {variable}", partial(_secret, variable, variables.get(variable), pods=pods))


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", name, check())
    except _UnknownError as unknown:
        return Finding("?", name, str(unknown))
    except (UserError, OSError) as error:
        return Finding("fail", name, " ".join(str(error).split()))


def _root(config: PipelineConfig, *, pods: bool) -> str:
    """Write, read and delete a file, with the credentials of whoever asks."""
    if pods and "://" not in config.root:
        if config.platform.is_shared(config.root):
            raise _UnknownError(f"{config.root}: on a claim that only the pods mount")
        expected = "gs://bucket/prefix, or a folder under a mount of platform.claims"
        raise UserError(
            "root-not-shared", "pods do not share a local folder", where="root", found=config.root, expected=expected
        )
    storage = Root(config.root).storage
    name = f"doctor-{uuid.uuid4().hex}"
    try:
        storage.write(name, b"doctor")
        storage.read(name)
        storage.delete(name)
    except OSError as error:
        found = type(error).__name__
        raise UserError(
            "cannot-write", "cannot write", where=storage.uri, found=found, remedy="Check its permissions."
        ) from None
    return f"{storage.uri} can be written, read and deleted" + (" with your credentials" if pods else "")


def _data(config: PipelineConfig, *, pods: bool) -> str:
    data = config.arguments["data"]
    places = data_places(data)
    claimed = [p for p in places.values() if pods and "://" not in p and config.platform.is_shared(p)]
    for name, place in places.items():
        if "://" in place or place in claimed:
            continue
        if pods:
            raise UserError(
                "root-not-shared",
                "pods do not share a local folder",
                where=f"data.{name}",
                found=place,
                expected="gs://…",
            )
        if found_at(place) is None:
            raise UserError("not-there", "nothing there", where=f"data.{name}", found=place, remedy="Check the path.")
    if claimed:
        raise _UnknownError(f"{', '.join(claimed)}: on a claim that only the pods mount")
    if not places:
        raise _UnknownError(f"{data['server']['url']}: a PACS, which preprocess asks first")
    if all("://" in place for place in places.values()):
        raise _UnknownError(f"{', '.join(places.values())}: in a bucket, which preprocess reads first")
    return ", ".join(places.values())


def _mlflow(config: PipelineConfig, *, pods: bool) -> str:
    uri = config.platform.env.get(TRACKING) if pods else tracking_uri(Root(config.root))
    if uri is None:
        raise _UnknownError(
            f"set platform.env.{TRACKING}, unless a secret or Kubeflow's MLflow plugin gives it to the pods"
        )
    parts = urllib.parse.urlsplit(uri)
    if "://" not in uri and uri != "databricks":
        expected = "an address such as http://localhost:5000"
        raise UserError("no-mlflow", "no address of MLflow", where=TRACKING, expected=expected)
    if parts.scheme not in ("http", "https"):
        return f"{without_secret(uri)}, no server needed"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    try:
        with urllib.request.urlopen(f"{shown}/health", timeout=TIMEOUT_S):
            return f"{shown} answers"
    except urllib.error.HTTPError as error:
        remedy = "Check the address, and `mlflow server --allowed-hosts`."
        raise UserError("mlflow-refuses", "MLflow refuses", where=shown, found=error.code, remedy=remedy) from None
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else "no answer by HTTP"
        if pods and isinstance(reason, socket.gaierror):
            raise _UnknownError(f"{shown}: no such name on this machine; in the cluster there may be") from None
        remedy = f"Start `mlflow server`, or fix {TRACKING}."
        raise UserError("no-mlflow", "MLflow does not answer", where=shown, found=reason, remedy=remedy) from None


def _image(image: str, *, pods: bool) -> str:
    place = find_image(image, here=not pods)
    if place is None:
        how = f"docker manifest inspect {image}" if pods else "only a run in containers needs it"
        raise _UnknownError(f"{image} was not found from here; {how}")
    return f"{image} is {place}"


def _secret(variable: str, secret: str | None, *, pods: bool) -> str:
    if pods and secret is not None:
        raise _UnknownError(f"from Kubernetes secret {secret}; check: kubectl -n NAMESPACE describe secret {secret}")
    if not pods and os.environ.get(variable):
        return "is set"
    if variable == ID_KEY:  # a run goes without
        fix = "Name a secret in platform.secrets." if pods else f"export {ID_KEY}=$(openssl rand -hex 32)"
        raise _UnknownError(f"not set: ids are hashed with a public salt. {fix}")
    raise UserError("not-set", "not set here", remedy=f"export {variable}=…")
