"""A TrainJob whose nodes were taken away goes on from its checkpoint; one that failed does not."""

from __future__ import annotations

from typing import Any

import pytest

from components.cxr.errors import UserError
from components.train import nodes
from tests.components.kube_api import KubeApi
from tests.components.train.cluster import CLUSTER, add_node, config_of, created, run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "POLL_S", 0.02)


def ended_with(code: int, *, now: bool = True) -> dict[str, Any]:
    """A pod's status whose container ended; unless `now`, the kubelet waits before it starts it again."""
    end = {"terminated": {"reason": "Error", "exitCode": code}}
    state = {"state": end} if now else {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end}
    status = {"name": "node", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, **state}
    return {"phase": "Failed" if now else "Running", "containerStatuses": [status]}


TAKEN = {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "Preemption"}]}
NOT_TAKEN = {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "False", "reason": "Preemption"}]}


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        (ended_with(143), ended_with(143), True),
        (ended_with(1), ended_with(143, now=False), True),
        (ended_with(1), TAKEN, True),
        (ended_with(143), ended_with(2), False),
        (ended_with(1), ended_with(1), False),
        (ended_with(137), NOT_TAKEN, False),
        (None, None, False),
    ],
    ids=["stopped", "waiting to start again", "preempted", "a user's mistake", "failed", "killed", "nothing is left"],
)
def test_a_job_whose_nodes_were_taken_away_is_started_again(
    kube: KubeApi, capsys: pytest.CaptureFixture[str], first: Any, second: Any, again: bool
) -> None:
    def control(job: dict[str, Any]) -> None:
        if len(created(kube)) == 3:
            job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            return
        for index, status in enumerate((first, second)):
            if status is not None:
                add_node(kube, job["metadata"]["name"], index, **status)
        job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "JobFailed"}]}

    kube.controllers["trainjobs"] = control
    if again:
        run()
        assert len(created(kube)) == 3
        assert kube.objects["trainjobs"] == {}
        out = capsys.readouterr().out
        assert "were taken away, retry 1 of 3" in out
        assert "were taken away, retry 2 of 3" in out
    else:
        with pytest.raises(UserError, match="training failed"):
            run()
        assert len(created(kube)) == 1


def test_a_job_is_not_started_again_for_ever(kube: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    def control(job: dict[str, Any]) -> None:
        add_node(kube, job["metadata"]["name"], 0, **ended_with(143))
        job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "JobFailed"}]}

    kube.controllers["trainjobs"] = control
    with pytest.raises(UserError, match=r"(?s)training failed.*Run the step again"):
        run(config_of(CLUSTER | {"retries": 1}))
    assert len(created(kube)) == 2
    assert "after 1 retries" in capsys.readouterr().out
    assert len(kube.objects["trainjobs"]) == 1, "left for inspection"
