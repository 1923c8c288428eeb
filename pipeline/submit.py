"""`python -m pipeline submit`: upload the pipeline to Kubeflow, start a run, wait for it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from pipeline.compile import compile_pipeline
from pipeline.config import PipelineConfig
from pipeline.endpoint import TOKEN_VARIABLE, connect, quiet_kfp

if TYPE_CHECKING:
    from kfp import Client

__all__ = ["submit"]

PIPELINE = "cxrflow"
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}  # kfp's own wait never sees that a run was canceled
FIRST_POLL_S, LAST_POLL_S = 1.0, 15.0
PATIENCE_S = 600.0
"""How long the API may be away while a run goes on."""


def submit(config: PipelineConfig, *, endpoint: str, experiment: str, namespace: str | None, wait: bool) -> None:
    """Upload the pipeline where it is new, create experiment and run, print the link and wait for the end.

    Args:
        namespace: the profile's, where several users share Kubeflow.

    Raises:
        UserError: no API there, it refuses, a root that pods cannot share, or the run failed.
    """
    if not config.platform.is_shared(config.root):
        expected = "gs://bucket/prefix, or a folder under a mount of platform.claims"
        raise UserError(
            "root-not-shared", "pods do not share a local folder", where="root", found=config.root, expected=expected
        )
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    client = connect(endpoint, namespace=namespace)
    try:
        with quiet_kfp():
            pipeline_id, version_id, version = _upload(client, config, namespace=namespace)
            where = client.create_experiment(experiment, namespace=namespace)
            run = client.run_pipeline(
                where.experiment_id,
                job_name=f"{PIPELINE} {time.strftime('%Y-%m-%d %H:%M:%S')}",
                params=config.arguments,
                pipeline_id=pipeline_id,
                version_id=version_id,
                service_account=config.platform.service_account,
            )
    except ApiException as error:
        raise UserError(
            "kfp-refuses",
            "Kubeflow Pipelines refuses",
            where=endpoint,
            found=_said(error),
            remedy="Try `python -m pipeline doctor`.",
        ) from None
    except HTTPError as error:
        raise UserError(
            "kfp-unavailable", "Kubeflow Pipelines no longer answers", where=endpoint, found=type(error).__name__
        ) from None
    interface = (os.environ.get("KF_PIPELINES_UI_ENDPOINT") or endpoint).rstrip("/")
    link = f"{interface}/#/runs/details/{run.run_id}"
    print(f"submit: {PIPELINE} {version}, experiment {experiment}: {link}", flush=True)
    if wait:
        try:
            _wait(client, run.run_id, link)
        except KeyboardInterrupt:  # the same command again would start another run
            print(f"submit: interrupted; the run goes on: {link}", file=sys.stderr, flush=True)
            raise SystemExit(130) from None


def _upload(client: Client, config: PipelineConfig, *, namespace: str | None) -> tuple[str, str, str]:
    """Ids of pipeline and version, and the version's name: a hash of what the YAML means, uploaded once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cxr_pipeline.yaml")
        compile_pipeline(config, file, target="kfp")
        version = content_hash(json.dumps(list(yaml.safe_load_all(file.read_text())), sort_keys=True))
        pipelines = client.list_pipelines(filter=_named(PIPELINE), namespace=namespace).pipelines
        if pipelines:
            pipeline_id = pipelines[0].pipeline_id
        else:
            pipeline_id = client.upload_pipeline(str(file), PIPELINE, namespace=namespace).pipeline_id
        known = client.list_pipeline_versions(pipeline_id, filter=_named(version)).pipeline_versions
        found = known[0] if known else client.upload_pipeline_version(str(file), version, pipeline_id=pipeline_id)
        return pipeline_id, found.pipeline_version_id, version


def _named(name: str) -> str:
    """The API's filter for what has a name."""
    same_name = {"operation": 1, "key": "display_name", "stringValue": name}  # 1: equals
    return json.dumps({"predicates": [same_name]})


def _wait(client: Client, run_id: str, link: str) -> None:
    """Print each change of the run's state until it ends.

    Raises:
        UserError: it did not succeed, the token is no longer valid, or the API stays away.
    """
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    state, pause, answered = "", FIRST_POLL_S, time.monotonic()
    while state not in ENDED:
        time.sleep(pause)
        pause = min(pause * 1.5, LAST_POLL_S)
        try:
            run = client.get_run(run_id)
        except (ApiException, HTTPError) as error:
            if isinstance(error, ApiException) and error.status in (401, 403):
                remedy = f"Renew {TOKEN_VARIABLE}; the run goes on: {link}"
                raise UserError(
                    "kfp-refuses", "Kubeflow Pipelines no longer accepts the token", remedy=remedy
                ) from None
            if time.monotonic() - answered > PATIENCE_S:
                remedy = f"The run may go on: {link}"
                raise UserError("kfp-unavailable", "Kubeflow Pipelines no longer answers", remedy=remedy) from None
            continue
        answered = time.monotonic()
        if run.state and run.state != state:
            state = run.state
            print(f"submit: {state.lower()}", flush=True)
    if state != "SUCCEEDED":
        code, what = (
            ("run-failed", "the run failed") if state == "FAILED" else ("run-stopped", f"the run was {state.lower()}")
        )
        raise UserError(code, what, where=_reason(run), remedy=f"See {link}")


def _reason(run: Any) -> str | None:
    """Failed tasks with what they said, else what the run says, in one line."""
    tasks = (run.run_details and run.run_details.task_details) or ()
    said = [
        f"{task.display_name}: {task.error.message}" if task.error and task.error.message else task.display_name
        for task in tasks
        if task.state == "FAILED"
    ]
    if not said and run.error and run.error.message:
        said = [run.error.message]
    return " ".join("; ".join(said).split()) or None


def _said(error: Any) -> str:
    """The API's own words for a refusal, in one line of at most 300 characters."""
    try:
        words = json.loads(error.body)["message"]
    except (KeyError, TypeError, ValueError):
        words = error.reason or ""
    return " ".join(f"{error.status} {words}".split())[:300]
