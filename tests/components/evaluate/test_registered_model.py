"""The model that MLflow registers answers elsewhere as evaluation did."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.cxr.films.pixels import encode_png
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.tracking.mlflow_server import tracking_uri
from tests.components.evaluate.world import World


def test_the_registered_model_answers_elsewhere_as_evaluation_did(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    """In another process and folder, without this repository on its path; films go as files."""
    rows, expected = [], []
    for g, golden in enumerate(world.report.golden):
        info = next(shard for shard in tiny_data.manifest.shards if shard.name == golden.shard)
        images = read_shard(tiny_data.storage, info).slice(golden.row, golden.num_images).to_pylist()
        rows += [_row(image, study=f"s{g}") for image in images]
        expected += [golden.probabilities] * len(images)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    program = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/cxrflow@challenger", suppress_warnings=True)
import components
assert "artifacts" in components.__file__, components.__file__
frame = pandas.DataFrame(json.load(open("rows.json")))
print(model.predict(frame).to_json(orient="records"))
"""
    found = _printed(program, tracking_uri(world.root), folder=tmp_path, environment=_environment())
    for one, other in zip(found, expected, strict=True):
        assert one.pop("in_distribution") is None, "too few films for a check"
        assert one == pytest.approx(other, abs=1e-5)


def test_the_docs_snippet_answers_for_any_form_of_a_row(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    """As written but for address, alias and film; in a clean process, in a folder where it leaves nothing."""
    golden = next(golden for golden in world.report.golden if golden.num_images == 1)
    info = next(shard for shard in tiny_data.manifest.shards if shard.name == golden.shard)
    (image,) = read_shard(tiny_data.storage, info).slice(golden.row, 1).to_pylist()
    row = _row(image, study="s")
    (tmp_path / "here").mkdir()
    film = tmp_path / "film.png"
    film.write_bytes(base64.b64decode(row["film"]))
    docs = Path(__file__).parents[3].joinpath("docs", "running.md").read_text()
    (snippet,) = re.findall(r"```python\n(import mlflow\n.*?)```", docs, re.DOTALL)
    uri = next(iter(re.findall(r'"(sqlite:[^"]+)"', snippet)))
    program = snippet.replace(uri, tracking_uri(world.root)).replace("@champion", "@challenger")
    assert "film.dcm" in program
    program = (
        "import warnings\nwarnings.simplefilter('ignore')\n"
        + program.replace("film.dcm", str(film))
        + f"""
import json
row = {row!r}
given = dict(row, age_years=row["age_years"] and int(row["age_years"]))
lower = dict(given, view_position=str(row["view_position"] or "").lower(), sex=str(row["sex"] or "").lower())
forms = [row, given, lower, dict(given, film=open({str(film)!r}, "rb").read()), dict(given, film={str(film)!r})]
answers = [model.predict(pd.DataFrame([form])) for form in forms] + [model.predict(given)]
empty = model.predict(pd.DataFrame([row])[:0])
assert (len(empty), list(empty.columns)) == (0, list(answers[0].columns))
example = model.predict(model.input_example)
assert len(example) == 1
print(json.dumps([answer.to_dict("records")[0] for answer in answers]))
"""
    )
    here, environment = tmp_path / "here", _environment()
    environment.pop("MLFLOW_TRACKING_URI", None)
    answers = _printed(program, folder=here, environment=environment)
    assert len(answers) == 6
    for found in answers:
        assert found.pop("in_distribution") is None
        assert found == pytest.approx(golden.probabilities, abs=1e-5)
    assert list(here.iterdir()) == [], "no mlflow.db is left behind"


@pytest.mark.slow
def test_mlflows_scoring_server_answers_as_evaluation_did(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    golden = next(golden for golden in world.report.golden if golden.num_images == 1)
    info = next(shard for shard in tiny_data.manifest.shards if shard.name == golden.shard)
    (image,) = read_shard(tiny_data.storage, info).slice(golden.row, 1).to_pylist()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/cxrflow@challenger"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow starts uvicorn by name
    environment = _environment() | {"MLFLOW_TRACKING_URI": tracking_uri(world.root), "PATH": path}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping"):
                break
            time.sleep(0.5)
        (found,) = _scored(port, [_row(image, study="s")])["predictions"]
        assert found.pop("in_distribution") is None
        assert found == pytest.approx(golden.probabilities, abs=1e-5)
        film = tmp_path / "film.png"
        film.write_bytes(base64.b64decode(_row(image, study="s")["film"]))
        with pytest.raises(urllib.error.HTTPError) as refused:
            _scored(port, [{"film": str(film)}])
        refused.value.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _scored(port: int, records: list[dict[str, Any]]) -> Any:
    data = json.dumps({"dataframe_records": records}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def _row(image: dict[str, Any], *, study: str) -> dict[str, Any]:
    film = encode_png(np.frombuffer(image["pixels"], np.uint8).reshape(32, 32))
    return {
        "film": base64.b64encode(film).decode(),
        "view_position": image["view_position"],
        "study": study,
        "text": image["text_indication"],
        "age_years": image["age_years"],
        "sex": image["sex"],
    }


def _printed(program: str, *arguments: str, folder: Path, environment: dict[str, str]) -> Any:
    """What the last line says, as JSON, of a program in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
