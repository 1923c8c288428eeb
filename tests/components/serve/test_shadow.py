"""A challenger beside a server: it answers what was answered, unseen, and nothing that befalls it reaches an answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from components.cxr.films.pixels import encode_png
from components.serve import shadow
from components.serve.app import create_app
from components.serve.client import open_client
from components.serve.config import ServeConfig
from components.serve.golden import RunningServer, running_server
from components.serve.predictor import StudyPredictor
from components.serve.shadow import AfterAnswer
from components.serve.shadow_telemetry import DIFFERENCES
from tests.components.processes import wait_for
from tests.components.serve.certificates import certificate_of

if TYPE_CHECKING:
    from components.cxr.model.batch import Study
    from components.cxr.shards import LoadedManifest
    from components.cxr.storage.storage import Storage
    from tests.components.serve.conftest import World

QUEUE = 2


@pytest.fixture(scope="module")
def challenger(tiny_data: LoadedManifest, untrained_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> World:
    from tests.components.serve.conftest import evaluate_bundle

    return evaluate_bundle(tmp_path_factory.mktemp("challenger"), tiny_data, untrained_bundle)


@pytest.fixture(scope="module")
def shadowed(evaluated: World, challenger: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server with a real challenger, both with API keys and TLS."""
    certificate, key = certificate_of(tmp_path_factory.mktemp("tls"))
    config = ServeConfig(
        shadow=challenger.bundle.uri,
        shadow_evaluation=challenger.evaluation.uri,
        shadow_queue=QUEUE,
        max_requests=64,
        keys="keys",  # in whose place each gets a file of its own
        tls_certificate=certificate,
        tls_key=key,
    )
    with running_server(config, evaluated.bundle, evaluated.evaluation, shadow=True) as server:
        wait_for(lambda: _metrics(server)["cxrflow_shadow_up"] == 1, 90)
        yield server
    assert server.process.returncode == 0
    wait_for(lambda: not _alive(challenger), 90)


def _client(server: RunningServer) -> httpx.Client:
    return open_client(server.address, timeout_s=60.0, key=server.key, certificate=server.certificate)


def _metrics(server: RunningServer) -> dict[str, float]:
    with _client(server) as client:
        text = client.get("/metrics").text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def _outcome(server: RunningServer, name: str) -> float:
    return _metrics(server)[f"cxrflow_shadow_studies_total{{outcome={name}}}"]


def _alive(challenger: World) -> list[int]:
    """Processes that serve the challenger, but for those that its films are read in."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if challenger.bundle.uri.encode() in words and b"components.serve" in words:
            found.append(int(path.parent.name))
    return found


def _ask(server: RunningServer, study: Study, *, age_years: float | None = None) -> httpx.Response:
    films = [("files", (f"{i}.png", encode_png(film), "image/png")) for i, film in enumerate(study.films)]
    views = ",".join(view or "" for view in study.view_positions)
    fields = {"text": study.text, "sex": study.sex or "", "age_years": repr(age_years), "view_positions": views}
    with _client(server) as client:
        return client.post("/v1/predict", data=fields, files=films)


@pytest.mark.slow
def test_its_differences_are_in_the_metrics_and_in_no_answer(
    shadowed: RunningServer, evaluated: World, challenger: World, study: Study
) -> None:
    ages = [20.0, 50.0, 80.0]
    differences: dict[str, list[float]] = {name: [] for name in evaluated.report.golden[0].probabilities}
    agreeing = 0
    ours, theirs = (StudyPredictor(world.bundle, world.evaluation) for world in (evaluated, challenger))
    for number, age in enumerate(ages, start=1):
        answer = _ask(shadowed, study, age_years=age)
        assert (answer.status_code, answer.json()["bundle_hash"]) == (200, evaluated.report.bundle_hash)
        asked: dict[str, Any] = {"text": study.text, "sex": study.sex, "age_years": age}
        asked["view_positions"] = study.view_positions
        films = [encode_png(film) for film in study.films]
        expected, shadow = (served.predict(films, **asked).answers for served in (ours, theirs))
        for name in differences:
            assert answer.json()["answers"][name]["probability"] == pytest.approx(expected[name].probability, abs=1e-5)
            differences[name].append(shadow[name].probability - expected[name].probability)
            agreeing += shadow[name].state == expected[name].state
        wait_for(lambda number=number: _outcome(shadowed, "answered") == number, 90)
    found = _metrics(shadowed)
    for name, values in differences.items():
        assert max(map(abs, values)) > 1e-3, "two models"
        for edge in DIFFERENCES:
            bucket = f"cxrflow_shadow_difference_bucket{{le={edge},pathology={name}}}"
            assert found[bucket] == sum(value <= edge for value in values), bucket
    states = {name: value for name, value in found.items() if name.startswith("cxrflow_shadow_states_total")}
    labels = [dict(pair.split("=") for pair in name.split("{")[1].rstrip("}").split(",")) for name in states]
    same = [value for at, value in zip(labels, states.values(), strict=True) if at["state"] == at["challenger"]]
    assert (sum(states.values()), sum(same)) == (len(ages) * len(differences), agreeing)
    assert found[f"cxrflow_shadow_model_info{{bundle_hash={challenger.report.bundle_hash}}}"] == 1

    with _client(shadowed) as client:
        refused = client.post("/v1/predict", files={"files": b"no film"})
    assert refused.status_code == 422
    assert sum(value for name, value in _metrics(shadowed).items() if "shadow_studies_total" in name) == len(ages)


@pytest.mark.slow
def test_one_that_is_behind_or_dead_delays_nobody(shadowed: RunningServer, challenger: World, study: Study) -> None:
    (process,) = _alive(challenger)
    assert os.getpriority(os.PRIO_PROCESS, process) == 19
    answered, dropped = (_outcome(shadowed, name) for name in ("answered", "dropped"))
    os.kill(process, signal.SIGSTOP)
    number = QUEUE + 4
    for i in range(number):
        assert _ask(shadowed, study, age_years=30.0 + i).status_code == 200
    # The one that it was asked, and those that wait.
    wait_for(lambda: _outcome(shadowed, "dropped") == dropped + number - QUEUE - 1, 90)
    os.kill(process, signal.SIGCONT)
    wait_for(lambda: _outcome(shadowed, "answered") == answered + QUEUE + 1, 90)

    os.kill(process, signal.SIGKILL)
    dropped = _outcome(shadowed, "dropped")
    assert _ask(shadowed, study, age_years=1.0).status_code == 200
    wait_for(lambda: _metrics(shadowed)["cxrflow_shadow_up"] == 0, 90)
    assert _ask(shadowed, study, age_years=2.0).status_code == 200
    assert _outcome(shadowed, "dropped") == dropped + 1
    wait_for(lambda: _metrics(shadowed)["cxrflow_shadow_up"] == 1, 90)
    assert _alive(challenger) not in ([], [process])


def test_one_that_cannot_start_harms_nothing(predictor: StudyPredictor, tmp_path: Path) -> None:
    with TestClient(create_app(predictor, ServeConfig(shadow=str(tmp_path / "nowhere")))) as client:
        assert client.post("/v1/predict", data={"text": "cough and fever"}).status_code == 200
        lines = client.get("/metrics").text.splitlines()
    assert "cxrflow_shadow_up 0.0" in lines
    assert 'cxrflow_shadow_studies_total{outcome="dropped"} 1.0' in lines


def test_an_answer_is_passed_on_once_it_has_gone_out(predictor: StudyPredictor) -> None:
    """In the order of the server's own sends."""
    order: list[str] = []
    app = create_app(predictor, ServeConfig())
    noted: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        answered = shadow._answered.get()
        assert answered is not None
        answered.append(noted)
        await app(scope, receive, send)

    async def send(message: Any) -> None:
        order.append(message["type"] + ("" if message.get("more_body", False) else " last"))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/healthz",
    }
    scope |= {"raw_path": b"/healthz", "query_string": b"", "headers": [], "root_path": ""}
    scope |= {"server": ("localhost", 80), "client": ("localhost", 1)}
    asyncio.run(AfterAnswer(inner, lambda found: order.append(f"offer {found is noted}"))(scope, receive, send))
    assert order[-2:] == ["http.response.body last", "offer True"]
