"""A training on several nodes: creates or joins the TrainJob, follows it, and leaves none behind."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from components.cxr.bundle_info import BUNDLE
from components.cxr.cluster.kube import (
    Cluster,
    ConflictError,
    Objects,
    UnavailableError,
    condition,
    connect,
    last_lines,
    list_pods,
    log_lines,
    own_secrets,
    stopped_by_sigterm,
)
from components.cxr.errors import UserError
from components.cxr.storage.storage import Root, Storage
from components.train.config import TrainConfig
from components.train.stopping import AGAIN
from components.train.trainjob import CONTAINER, KIND, SECRETS, SPEC_ANNOTATION, train_job

__all__ = ["train_on_nodes"]

POLL_S = 5.0
PATIENCE_S = 300.0
"""How long the API may fail to answer, or a deleted job may linger, before the step gives up."""
DELETE_ATTEMPTS = 5
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


def train_on_nodes(config: TrainConfig, *, key: str, root: Root, manifest: Storage) -> None:
    """Run a training as a TrainJob and return once it is complete.

    A job for the same training that is there already is joined, or replaced if it has ended or is another one. When
    this process is stopped or fails, the job is deleted; its checkpoints stay under `root`, and the next one goes on
    from the last. A job whose nodes were taken away is started again, `cluster.retries` times: a TrainJob has no field
    for that, and its runtime's own restarts end with the pods of a JobSet. Any other failed job is left for inspection.

    Raises:
        UserError: no cluster, a folder that the nodes cannot see, a refusal by the cluster, or a job that failed, with
            its pods' last lines.
    """
    config.cluster.require_reachable(root.uri, where="train.cluster")
    config.cluster.require_reachable(manifest.uri, where="train.cluster")
    cluster = connect(config.cluster.namespace)
    job = train_job(config, key=key, root=root, manifest=manifest, secrets=own_secrets(cluster, SECRETS))
    name = job["metadata"]["name"]
    jobs, where = Objects(cluster, KIND), f"{cluster.namespace}/{name}"
    with stopped_by_sigterm():
        try:
            for retry in range(config.cluster.retries + 1):
                _create_or_join(jobs, job, where=where)
                follower = _Follower(cluster, name, num_nodes=config.num_nodes)
                ended = _wait(jobs, name, follower, bundle=root.bundle(key))
                if ended["type"] == "Complete" or not _were_taken_away(cluster, name):
                    break
                print(f"train: nodes of TrainJob {where} were taken away, {_left(config, retry)}", flush=True)
        except BaseException:
            _delete(jobs, name, where=where)
            raise
    if ended["type"] == "Failed":
        lines = last_lines(cluster, _selector(name), container=CONTAINER)
        raise UserError(
            "training-failed",
            f"training failed, its pods' last lines:\n{lines}\n",
            where=f"TrainJob {where}",
            found=" ".join(f"{ended.get('reason', '')} {ended.get('message', '')}".split()).rstrip("."),
            remedy="Run the step again to go on from the last checkpoint.",
        )
    _delete(jobs, name, where=where)


def _were_taken_away(cluster: Cluster, name: str) -> bool:
    """Whether a failed job's nodes were stopped by SIGTERM or lost to the cluster, and none met a user's mistake."""
    try:
        pods = list_pods(cluster, _selector(name))
    except UserError:
        return False  # nobody may look
    codes = {code for pod in pods for code in pod.exit_codes}
    return 2 not in codes and (AGAIN in codes or any(pod.disrupted for pod in pods))


def _left(config: TrainConfig, retry: int) -> str:
    retries = config.cluster.retries
    return f"retry {retry + 1} of {retries}" if retry < retries else f"after {retries} retries"


def _delete(jobs: Objects, name: str, *, where: str) -> None:
    """Delete the job, in a few attempts; a training that is done does not fail because its job lingers."""
    for attempt in range(1, DELETE_ATTEMPTS + 1):
        try:
            jobs.delete(name)
        except UnavailableError as error:
            if attempt == DELETE_ATTEMPTS:
                print(f"train: TrainJob {where} is left behind: {error}", flush=True)
            else:
                time.sleep(POLL_S)
        except UserError as error:
            print(f"train: TrainJob {where} is left behind: {error}", flush=True)
            return
        else:
            print(f"train: deleted TrainJob {where}", flush=True)
            return


def _create_or_join(jobs: Objects, job: dict[str, Any], *, where: str) -> None:
    name, wanted = job["metadata"]["name"], job["metadata"]["annotations"][SPEC_ANNOTATION]
    found = jobs.get(name)
    if found is not None:
        metadata = found["metadata"]
        same = metadata.get("annotations", {}).get(SPEC_ANNOTATION) == wanted
        if same and "deletionTimestamp" not in metadata and _ended(found) is None:
            print(f"train: joined TrainJob {where}", flush=True)
            return
        print(f"train: replacing TrainJob {where}", flush=True)
        jobs.delete(name)
        deadline = time.monotonic() + PATIENCE_S
        while jobs.get(name) is not None:
            if time.monotonic() > deadline:
                raise UserError(
                    "trainjob-lingers", "a deleted TrainJob lingers", where=where, remedy="Look at its finalizers."
                )
            time.sleep(POLL_S)
    try:
        jobs.create(job)
    except ConflictError:  # another step was first, and its job is not this one's to delete
        _create_or_join(jobs, job, where=where)
        return
    print(f"train: created TrainJob {where}", flush=True)


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    """The condition that says that the job is over; None before."""
    found = (condition(job, kind) for kind in ("Failed", "Complete"))
    return next((entry for entry in found if entry and entry.get("status") == "True"), None)


def _wait(jobs: Objects, name: str, follower: _Follower, *, bundle: Storage) -> dict[str, Any]:
    """Follow the job until it has ended; short outages of the API are waited out.

    Two steps that follow one job delete it when they see its end: where the bundle is there, that is what happened.
    """
    answered = time.monotonic()
    while True:
        try:
            job = jobs.get(name)
            answered = time.monotonic()
        except UnavailableError:
            if time.monotonic() - answered > PATIENCE_S:
                raise
        else:
            if job is None:
                if bundle.exists(BUNDLE):
                    return {"type": "Complete"}
                raise UserError("deleted-meanwhile", "the TrainJob was deleted by someone else", where=name)
            follower.show()
            if (ended := _ended(job)) is not None:
                return ended
        time.sleep(POLL_S)


class _Follower:
    """Prints how the nodes are when that changes, and the first node's log. Not being allowed to is no failure."""

    def __init__(self, cluster: Cluster, name: str, *, num_nodes: int) -> None:
        self._cluster, self._selector, self._num_nodes = cluster, _selector(name), num_nodes
        self._shown = self._newest = ""
        self._looked: float | None = None

    def show(self) -> None:
        try:
            pods = list_pods(self._cluster, self._selector)
            states = Counter(pod.state for pod in pods)
            self._say(f"nodes: {', '.join(f'{n} {state}' for state, n in sorted(states.items())) or 'none yet'}")
            for pod in pods:
                if pod.labels.get(INDEX_LABEL) == "0":
                    self._show_log(pod.name)
        except UserError as error:
            self._say(f"cannot follow the nodes: {error}")

    def _show_log(self, pod: str) -> None:
        """Lines since the last look, and a margin of which the timestamps tell what is new."""
        now = time.monotonic()
        recent = {"tail_lines": 10} if self._looked is None else {"since_seconds": int(now - self._looked) + 10}
        self._looked = now
        for line in log_lines(self._cluster, pod, container=CONTAINER, timestamps=True, **recent):
            stamp, _, text = line.partition(" ")
            if stamp > self._newest:
                self._newest = stamp
                print(text, flush=True)

    def _say(self, line: str) -> None:
        if line != self._shown:
            self._shown = line
            print(f"train: {line}", flush=True)


def _selector(name: str) -> str:
    """The pods of the job's nodes: JobSet's own labels."""
    return f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={CONTAINER}"
