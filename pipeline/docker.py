"""The pipeline's tasks as containers of the real images on this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import psutil
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import Mount

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.mlflow_server import tracking_uri
from pipeline.config import ImageName, PipelineConfig
from pipeline.places import data_places, found_at
from pipeline.run import ending_steps

if TYPE_CHECKING:
    from kfp.local.config import DockerRunner

__all__ = ["containers"]

PASSED_ON = (
    "CXRFLOW_API_KEY",
    "CXRFLOW_CACHE_GB",
    "CXRFLOW_GCS_DEADLINE_S",
    "CXRFLOW_ID_KEY",
    "GOOGLE_CLOUD_PROJECT",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_WORKSPACE",
    "OMP_WAIT_POLICY",
    "STORAGE_EMULATOR_HOST",
)
"""Settings of the caller that the steps need as well."""

CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
IMAGES: tuple[ImageName, ...] = ("preprocess", "train", "evaluate", "serve")
LABEL, RUNNER_LABEL = "cxrflow", "cxrflow.runner"
"""Which run a container or network belongs to, and the process that takes it away in the end."""
MLFLOW_PORT = 5000
MLFLOW_TIMEOUT_S = 120.0
SHM_SIZE = "2g"
"""Loader processes hand their batches over in /dev/shm, of which Docker gives 64 MB."""

ASK = "for shell in $(cat /proc/1/task/1/children); do kill -TERM $(cat /proc/$shell/task/$shell/children); done"
"""In a task's container: SIGTERM for the step alone. kfp's shell around it would end at once, and the container too."""
ASKED_AGAIN_S = 60
"""A step that has hardly begun may not hear it."""


@contextlib.contextmanager
def containers(config: PipelineConfig, *, network: str | None = None) -> Iterator[DockerRunner]:
    """What runs every task as a container of its image, as the caller's user, and MLflow's server beside them.

    Root and data are mounted under the paths that they have here, so that pointers hold in both worlds. The server
    keeps its database and artifacts under the root; with MLFLOW_TRACKING_URI set the steps use that one instead.

    Args:
        network: Docker network to join; None makes one for this run that reaches nothing outside.

    Raises:
        UserError: no Docker, an image or the network is missing, or MLflow's server does not start.
    """
    from kfp.local import DockerRunner

    engine = _engine()
    for image in {config.platform.image_of(step) for step in IMAGES}:
        _require_image(engine, image)
    name = f"cxrflow-{secrets.token_hex(4)}"
    common: dict[str, Any] = {
        "user": f"{os.getuid()}:{os.getgid()}",
        "mounts": _mounts(config),
        "working_dir": str(Path.cwd()),
        "labels": _labels(name),
    }
    _remove_leftovers(engine)
    environment = _environment(config)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        stack.enter_context(ending_steps(lambda: _end_steps(engine, name), on=[signal.SIGTERM, signal.SIGINT]))
        common["network"] = stack.enter_context(_network(engine, network, name))
        stack.enter_context(_no_containers_left(engine, name))
        uri = os.environ.get("MLFLOW_TRACKING_URI") or _mlflow_server(engine, name, config, common=common)
        yield DockerRunner(
            **common,
            entrypoint=[],  # kfp's command would be the arguments of the image's own
            environment=environment | {"MLFLOW_TRACKING_URI": uri},
            shm_size=SHM_SIZE,
            init=True,
        )


def _engine() -> Any:
    try:
        engine = docker.from_env()
        engine.ping()
    except DockerException as error:
        found = str(error)[:160]
        raise UserError("no-docker", "no Docker engine", where="docker", found=found, remedy="Start dockerd.") from None
    return engine


def _require_image(engine: Any, image: str) -> None:
    try:
        engine.images.get(image)
    except ImageNotFound:
        raise UserError(
            "no-image", "no such image", where="platform.images", found=image, remedy="Run make images."
        ) from None


@contextlib.contextmanager
def _network(engine: Any, given: str | None, name: str) -> Iterator[str]:
    """The given network, else an internal one for as long as this takes."""
    if given is not None:
        try:
            engine.networks.get(given)
        except NotFound:
            remedy = f"Run docker network create {given}."
            raise UserError(
                "no-docker-network", "no such Docker network", where="--network", found=given, remedy=remedy
            ) from None
        yield given
        return
    network = engine.networks.create(name, internal=True, labels=_labels(name))
    try:
        yield name
    finally:
        network.remove()


@contextlib.contextmanager
def _no_containers_left(engine: Any, name: str) -> Iterator[None]:
    """Remove MLflow's server, and the tasks of an interrupted run, which kfp leaves running."""
    try:
        yield
    finally:
        for container in engine.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}={name}"}):
            _remove(container, force=True)


def _end_steps(engine: Any, name: str) -> bool:
    """Let the steps end that run, and say whether there was one; MLflow's server waits for what they tell it."""
    ours = engine.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}={name}"})
    steps = [container for container in ours if container.name != _mlflow_host(name)]
    running = [step for step in steps if step.status == "running"]
    for step in running:
        with contextlib.suppress(NotFound, APIError):  # it has ended
            step.exec_run(["sh", "-c", ASK])
    for step in running:
        with contextlib.suppress(NotFound, APIError, requests.RequestException):  # or has just begun: it is asked again
            step.wait(timeout=ASKED_AGAIN_S)
    return bool(steps)


def _labels(name: str) -> dict[str, str]:
    return {LABEL: name, RUNNER_LABEL: f"{platform.node()}/{os.getpid()}"}


def _remove_leftovers(engine: Any) -> None:
    """Remove what runs left that were killed, or whose machine was: tasks, MLflow's server, and the network.

    The process that started them ran on this machine and is gone. What another machine started is left alone.
    """
    left = {"label": RUNNER_LABEL}
    for container in engine.containers.list(all=True, ignore_removed=True, filters=left):
        if _runner_is_gone(container.labels):
            _remove(container, force=True)
    for network in engine.networks.list(filters=left):
        if _runner_is_gone(network.attrs["Labels"]):
            _remove(network)


def _runner_is_gone(labels: Mapping[str, str]) -> bool:
    node, _, pid = labels[RUNNER_LABEL].rpartition("/")
    return node == platform.node() and not psutil.pid_exists(int(pid))


def _remove(thing: Container | Network, **options: bool) -> None:
    with contextlib.suppress(NotFound, APIError):  # it was being removed already
        thing.remove(**options)


def _mlflow_host(name: str) -> str:
    return f"{name}-mlflow"


def _mlflow_server(engine: Any, name: str, config: PipelineConfig, *, common: Mapping[str, Any]) -> str:
    """Address of an MLflow server that was started in a container of the evaluate image."""
    root = Root(config.root)
    backend = tracking_uri(root)
    folder = root.storage.local_path("mlflow")
    assert folder is not None, "tracking_uri refuses a bucket"
    folder.mkdir(parents=True, exist_ok=True)
    host = _mlflow_host(name)
    # Artifacts are files under the root, where `make mlflow` and models:/cxrflow@champion find them without the server.
    command = ["--host", "0.0.0.0", "--port", str(MLFLOW_PORT), "--workers", "1", "--backend-store-uri", backend]
    command += ["--no-serve-artifacts", "--default-artifact-root", str(folder / "artifacts")]
    command += ["--allowed-hosts", f"{host}:{MLFLOW_PORT},127.0.0.1:{MLFLOW_PORT}"]
    server = engine.containers.run(
        config.platform.image_of("evaluate"),
        command,
        entrypoint=["python", "-m", "mlflow", "server"],
        name=host,
        detach=True,
        init=True,
        **common,
    )
    _wait_for(server)
    return f"http://{host}:{MLFLOW_PORT}"


def _wait_for(server: Container) -> None:
    """Wait until MLflow answers; asked inside its container, since an internal network may not reach this machine."""
    ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{MLFLOW_PORT}/health', timeout=5)"
    deadline = time.monotonic() + MLFLOW_TIMEOUT_S
    while time.monotonic() < deadline:
        server.reload()
        if server.status in ("exited", "dead"):
            break
        if server.status == "running" and server.exec_run(["python", "-c", ask]).exit_code == 0:
            return
        time.sleep(0.5)
    tail = server.logs(tail=15).decode(errors="replace")
    raise UserError("no-mlflow", f"MLflow's server does not answer; its last lines:\n{tail}")


def _environment(config: PipelineConfig) -> dict[str, str]:
    """What of the caller's environment the steps need, with the credentials of the data's PACS."""
    server = config.arguments["data"].get("server", {})
    credentials = [value for name, value in server.items() if name.endswith("_variable")]
    return {name: os.environ[name] for name in (*PASSED_ON, CREDENTIALS, *credentials) if name in os.environ}


def _mounts(config: PipelineConfig) -> list[Mount]:
    """What the steps write, and read-only what the configuration reads: data, pretrained weights, credentials."""
    mounts: dict[str, Mount] = {}
    for path in _read_paths(config):
        mounts[path] = Mount(path, path, type="bind", read_only=True)
    for folder in _written_folders(config):
        folder.mkdir(parents=True, exist_ok=True)
        mounts[str(folder)] = Mount(str(folder), str(folder), type="bind")
    return list(mounts.values())


def _written_folders(config: PipelineConfig) -> Iterator[Path]:
    """The root, and the folder of what the search of a PACS found."""
    root = Root(config.root).storage.local_path("")
    if root is not None:
        yield root
    found = config.arguments["data"].get("found")
    if found is not None and "://" not in found:
        yield Path(found).expanduser().absolute().parent


def _read_paths(config: PipelineConfig) -> Iterator[str]:
    train = config.arguments["train"]
    values: list[str | None] = [*data_places(config.arguments["data"]).values()]
    values += [train["architecture"][name].get("pretrained") for name in ("vision", "text")]
    values.append(train.get("fine_tune_from"))
    values.append((config.arguments["evaluate"].get("second_truth") or {}).get("table"))
    values.append(os.environ.get(CREDENTIALS))
    for value in values:
        if value and "://" not in value and (path := found_at(value)) is not None:
            yield str(path.absolute())
