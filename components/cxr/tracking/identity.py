"""Who made a run of MLflow, from what, and where a person finds it in MLflow's pages."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from components.cxr.revision import git_revision
from components.cxr.storage.storage import Root

__all__ = [
    "DESCRIPTION",
    "IMAGE",
    "NOTE",
    "PARENT",
    "PARENT_RUN",
    "PIPELINE_RUN",
    "TRIAL",
    "data_set_name",
    "experiment_link",
    "flat",
    "made_by",
    "run_link",
    "run_name",
]

PIPELINE_RUN = "CXRFLOW_PIPELINE_RUN"
"""Environment variable that names the pipeline's run, which the steps of a pipeline set."""
PARENT_RUN = "CXRFLOW_PARENT_RUN"
"""Environment variable that names MLflow's run of a sweep, which the runs of its trainings are nested in."""
TRIAL = "CXRFLOW_TRIAL"
"""Environment variable that says which trial of a sweep a training is, and names its run."""
IMAGE = "CXRFLOW_IMAGE"
"""Environment variable that names the container's image, by tag or digest, as `platform.images` has it."""

NOTE, PARENT = "mlflow.note.content", "mlflow.parentRunId"
"""MLflow's own tags: the description of a run, model or experiment, and the run that a run is nested in."""

DESCRIPTION = """Chest X-ray classifiers. A run is one training: its losses, then the scores of its evaluation on test \
studies, each mean with its 95 % interval (`_low`, `_high`; bootstrap over patients), figures and tables under \
Artifacts, and the model that was registered from it. Names that begin with LEAKY are of models that may read their \
answer."""
"""Of an experiment."""

_PAGES = "workflowType=machine_learning"
"""Without it MLflow opens an experiment on its pages for language models, where there are no runs of a training."""


def made_by(source: str) -> dict[str, str]:
    """Tags of a new run: user, source, git revision, and pipeline run, image and a sweep's run where there are any.

    Args:
        source: the module that is run, such as components.train.
    """
    revision = git_revision()
    values = {
        "mlflow.user": _user(),
        "mlflow.source.name": source,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": revision,
        "git_revision": revision,
        "pipeline_run": os.environ.get(PIPELINE_RUN),
        "image": os.environ.get(IMAGE),
        PARENT: os.environ.get(PARENT_RUN),
    }
    return {name: value for name, value in values.items() if value}


def run_name(*parts: str, now: datetime | None = None) -> str:
    """A name that tells a person what a run is: its parts and when it began (UTC).

    >>> run_name("demo", "resnet 64 px", now=datetime(2026, 11, 28, 5, 7, tzinfo=UTC))
    'demo, resnet 64 px, 2026-11-28 05:07'
    """
    started = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M")
    return ", ".join([*(part for part in parts if part), started])


def data_set_name(root: Root) -> str:
    """What a person calls the data: the last part of the root."""
    return root.uri.rstrip("/").rpartition("/")[2]


def experiment_link(server: str, experiment_id: str) -> str:
    """The page with an experiment's runs.

    >>> experiment_link("http://127.0.0.1:5000", "1")
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning'
    """
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{_pages()}"


def run_link(server: str, experiment_id: str, run_id: str) -> str:
    """The page of a run."""
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}?{_pages()}"


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested values under dotted names, without those that are None or empty.

    >>> flat({"labels": {"blank": "negative"}, "seed": 0, "compile": None}, "train.")
    {'train.labels.blank': 'negative', 'train.seed': 0}
    """
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None and value != [] and value != "":
            found[f"{prefix}{name}"] = value
    return found


def _pages() -> str:
    workspace = os.environ.get("MLFLOW_WORKSPACE")
    return f"{_PAGES}&workspace={quote(workspace)}" if workspace else _PAGES


def _user() -> str:
    """The user's name; a container may run as a number that nobody has given a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
