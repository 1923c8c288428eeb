from __future__ import annotations

import pytest

from components.cxr.cluster.pods import PodConfig
from components.cxr.errors import UserError


def test_the_cluster_may_choose_the_user() -> None:
    """Null would not reach a step through KFP, and a whole number arrives there as a float."""
    ours, theirs = PodConfig().security_context(), PodConfig(run_as_user="cluster").security_context()
    assert ours == theirs | {"runAsUser": 10001}
    assert PodConfig.parse({"run_as_user": 1234.0}, where="serve.cluster").security_context()["runAsUser"] == 1234
    with pytest.raises(UserError, match="run_as_user"):
        PodConfig.parse({"run_as_user": 0}, where="serve.cluster")


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"key": "pool", "value": "gpu", "effect": "NoSchedule"}, "operator Equal for a value"),
        ({"operator": "Equal", "value": "gpu"}, "a key with operator Equal"),
    ],
)
def test_a_toleration_that_kubernetes_refuses_is_refused_before(toleration: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError, match=rf"train\.cluster\.tolerations\.0.*{expected}"):
        PodConfig.parse({"tolerations": [toleration]}, where="train.cluster")
    PodConfig.parse({"tolerations": [{"key": "pool", "operator": "Equal", "value": "gpu"}, {}]}, where="train.cluster")
