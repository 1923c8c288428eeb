"""A film that ends or freezes its decoder, at a real server: 422 for it, and nothing for anybody else."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import time
from pathlib import Path

import httpx
import pytest

from components.cxr.films.limits import DecodeLimits
from components.serve.config import ServeConfig
from components.serve.golden import running_server
from tests.components.cxr.films.bad_decoders import ABORTS, SPINS, bad_film, good_film, plant
from tests.components.processes import children_of, is_busy, lives, wait_for


@pytest.fixture
def bad_decoders(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", plant(tmp_path / "hook"))


def post(server, film, timeout=60):
    return httpx.post(f"{server.address}/v1/predict", files={"files": ("f", film)}, timeout=timeout, trust_env=False)


def code(response):
    assert response.status_code == 422
    return response.json()["error"]["code"]


def decoders_of(server):
    return children_of(server.process.pid, "decoder_process")


@pytest.mark.usefixtures("bad_decoders")
def test_bad_films_are_refused_and_the_next_request_is_answered(evaluated, dicom_bytes):
    good = good_film(dicom_bytes)
    with running_server(ServeConfig(limits=DecodeLimits(seconds=5)), evaluated.bundle, evaluated.evaluation) as server:
        assert len(decoders_of(server)) == 1  # started before the first request
        expected = post(server, good).json()
        assert code(post(server, bad_film(dicom_bytes, ABORTS))) == "film-decoder-crashed"
        assert post(server, good).json() == expected
        assert code(post(server, bad_film(dicom_bytes, SPINS))) == "film-decoder-hung"
        assert post(server, good).json() == expected


@pytest.mark.slow
@pytest.mark.usefixtures("bad_decoders")
def test_nothing_else_is_held_up_by_a_film_that_spins(evaluated, dicom_bytes):
    config = ServeConfig(limits=DecodeLimits(seconds=25))
    good, spins = good_film(dicom_bytes), bad_film(dicom_bytes, SPINS)
    with (
        running_server(config, evaluated.bundle, evaluated.evaluation) as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        expected = post(server, good).json()
        refused = pool.submit(post, server, spins)
        wait_for(lambda: any(is_busy(pid) for pid in decoders_of(server)))
        assert httpx.get(f"{server.address}/healthz", timeout=3, trust_env=False).json() == {"status": "ok"}
        assert post(server, good).json() == expected
        assert not refused.done()
        # pylibjpeg takes memory while it spins: time or memory ends it, whichever is over first
        assert code(refused.result()) in ("film-decoder-hung", "film-decoder-crashed", "film-too-large")
        assert post(server, good).json() == expected
        assert httpx.get(f"{server.address}/readyz", trust_env=False).status_code == 200
    log = server.log
    assert server.process.returncode == 0, log


@pytest.mark.usefixtures("bad_decoders")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_server_and_its_decoders_while_one_spins(evaluated, dicom_bytes, number):
    config = ServeConfig(limits=DecodeLimits(seconds=600), timeout_s=5 if number == signal.SIGTERM else 60)
    with (
        running_server(config, evaluated.bundle, evaluated.evaluation) as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        refused = pool.submit(post, server, bad_film(dicom_bytes, SPINS))
        wait_for(lambda: any(is_busy(pid) for pid in decoders_of(server)))
        decoders = decoders_of(server)
        start = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(30) == (0 if number == signal.SIGTERM else -number)
        assert time.monotonic() - start < 20
        wait_for(lambda: not any(lives(pid) for pid in decoders), 5)
        with pytest.raises(httpx.TransportError) if number == signal.SIGKILL else contextlib.nullcontext():
            refused.result()
    assert not Path(f"/proc/{server.process.pid}").exists()
