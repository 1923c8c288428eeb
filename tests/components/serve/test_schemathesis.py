"""The server does what its OpenAPI description says: requests that Schemathesis makes of it, with all checks on."""

from __future__ import annotations

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.keys import OPEN_PATHS, KeyRing, add_key, new_key

SETTINGS = settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def described(predictor, tmp_path_factory):
    """The description of a server that wants keys."""
    path, key = tmp_path_factory.mktemp("keys") / "keys", new_key()
    add_key(path, "test", key)
    app = create_app(predictor, ServeConfig(timeout_s=30), keys=KeyRing(path))
    # No schema says that a text is a film, or that one input of many must be there: 413 and 422 may refuse both.
    # What is too much is refused before it is looked at.
    refused = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
    checks = {
        "positive_data_acceptance": {"expected-statuses": ["2xx", 413, 422]},
        "negative_data_rejection": {"expected-statuses": refused},
    }
    auth = {"openapi": {"key": {"api_key": key}, "bearer": {"bearer": key}}}
    config = SchemathesisConfig.from_dict({"checks": checks, "auth": auth})
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config, headers={"X-API-Key": key})


def _asked(operation, mode):
    """The statuses of some requests, each of which passed every check."""
    seen: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @SETTINGS
    def ask(case):
        seen[case.call_and_validate().status_code] += 1

    try:
        ask()
    except Unsatisfiable:  # a path without anything that could be wrong
        assert operation.path in OPEN_PATHS, operation.label
    return seen


def test_requests_of_the_description_get_the_answers_of_the_description(described):
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) >= 13
    for operation in operations:
        seen = _asked(operation, GenerationMode.POSITIVE) + _asked(operation, GenerationMode.NEGATIVE)
        assert seen[200], operation.label
        if operation.method == "post":
            assert seen[422] + seen[415] + seen[400] > 10, operation.label
