"""Damaged films of every codec at a real server: an answer or a refusal for each, and the next one is answered."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.components.cxr.films.test_fuzz import mutants, originals


@pytest.mark.parametrize(
    ("number", "seed"),
    [(300, 3), pytest.param(10_000, 4, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_damaged_films_get_an_answer_or_a_reason(server, number, seed, capsys):
    earlier = len(server.log.read_text())  # other tests' requests
    with httpx.Client(base_url=server.address, timeout=60, trust_env=False) as client:

        def post(film):
            return client.post("/v1/predict", files={"files": ("Doe^Jane.dcm", film)})

        before = {name: post(film).json() for name, film in originals().items()}
        found: Counter[str] = Counter()
        with ThreadPoolExecutor(4) as pool:
            for response in pool.map(post, (data for _, data in mutants(number, seed=seed))):
                assert response.status_code in (200, 422), response.text
                code = "read" if response.status_code == 200 else response.json()["error"]["code"]
                assert code == "read" or re.fullmatch(r"film-[a-z-]+", code)
                found[code] += 1
        assert {name: post(film).json() for name, film in originals().items()} == before
        assert client.get("/readyz").json() == {"status": "ready"}
    with capsys.disabled():
        print(f"\n{number} damaged films: {dict(found.most_common())}")
    assert found["read"] > number / 20
    assert found.total() - found["read"] > number / 4
    log = server.log.read_text()[earlier:]
    assert "Jane" not in log
    lines = [json.loads(line) for line in log.splitlines() if not line.startswith("serve: ")]
    assert not [line for line in lines if line["level"] not in ("info", "debug")]
    assert max(line["ms"] for line in lines if line["message"] == "request") < 25_000
