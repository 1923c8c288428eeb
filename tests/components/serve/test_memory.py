"""A server's memory stays flat: over answers, over refusals, and over films that end their decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest

from components.serve.config import ServeConfig
from components.serve.golden import running_server
from tests.components.cxr.films.bad_decoders import ABORTS, bad_film, good_film, plant
from tests.components.processes import children_of

if TYPE_CHECKING:
    from tests.components.serve.conftest import World

MIB = 1 << 20


class Number(NamedTuple):
    """Of requests."""

    answered: int
    refused: int
    crashed: int
    growth_mib: int
    """Allowed from the end of the warm-up on: the allocator's arenas fill up for some hundred requests."""


SMALL, LARGE = Number(150, 40, 8, 24), Number(5_000, 500, 100, 24)
WARM_UP = 50


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(SMALL, marks=[pytest.mark.slow]),
        pytest.param(LARGE, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
    ids=["300", "5000"],
)
def test_memory_is_flat(
    evaluated: World,
    dicom_bytes: Any,
    make_png: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: Number,
) -> None:
    monkeypatch.setenv("PYTHONPATH", plant(tmp_path / "hook"))
    films = [good_film(dicom_bytes), make_png(300, 240), make_png(1024, 900)]
    crashing = bad_film(dicom_bytes, ABORTS)
    with (
        running_server(ServeConfig(), evaluated.bundle, evaluated.evaluation) as server,
        httpx.Client(base_url=server.address, timeout=120.0, trust_env=False) as client,
    ):

        def ask(*films: bytes, text: str = "") -> httpx.Response:
            files = [("files", (f"{i}", film)) for i, film in enumerate(films)]
            return client.post("/v1/predict", files=files or None, data={"text": text})

        def answer(count: int) -> None:
            for i in range(count):
                assert ask(*films[: 1 + i % len(films)], text="cough and fever " * (i % 7)).status_code == 200

        def look(name: str) -> None:
            seen[name] = _resident(server.process.pid)
            decoders = [_resident(pid) for pid in children_of(server.process.pid, "decoder_process")]
            assert len(decoders) <= ServeConfig().readers
            largest[name] = max(decoders, default=0)

        seen: dict[str, int] = {}
        largest: dict[str, int] = {}
        answer(WARM_UP)
        assert ask(b"no film").status_code == 422
        assert ask(crashing).json()["error"]["code"] == "film-decoder-crashed"
        answer(WARM_UP)
        look("warm")
        answer(number.answered)
        look("answered")
        for i in range(number.refused):
            assert ask(b"no film" * i, *films[i % 2 :]).status_code == 422
        look("refused")
        for _ in range(number.crashed):
            assert ask(crashing).json()["error"]["code"] == "film-decoder-crashed"
        answer(WARM_UP)
        look("crashed")
    told = "; ".join(
        f"{name}: server {seen[name] / MIB:.0f} MiB, largest decoder {largest[name] / MIB:.0f} MiB" for name in seen
    )
    print(told)
    for found in (seen, largest):
        assert max(found.values()) - found["warm"] < number.growth_mib * MIB, told
    assert server.process.returncode == 0


def _resident(pid: int) -> int:
    """Bytes of a process in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024
