"""What the pages tell people to type at a server, typed at one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[3] / "docs"
ADDRESS = "http://127.0.0.1:8000"


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def _commands() -> list[str]:
    """Every curl of a server's own address, each with its further lines."""
    found = [
        match.strip()
        for page in ("running.md", "serving.md", "gke.md", "onprem.md")
        for block in _blocks(page, "sh") + _blocks(page, "bash")
        for match in re.findall(rf"^curl (?:(?!^\S).)*?{re.escape(ADDRESS)}[^\n]*", block, re.DOTALL | re.MULTILINE)
    ]
    assert len(found) >= 6
    return sorted(set(found))


@pytest.fixture
def desk(tmp_path, dicom_bytes):
    """A folder with the film of the examples."""
    stored = np.arange(60 * 48, dtype=np.uint16).reshape(60, 48)
    (tmp_path / "film.dcm").write_bytes(dicom_bytes(stored, bits_stored=12))
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("command", _commands())
def test_a_curl_is_answered(desk, server, command):
    typed = command.replace(ADDRESS, server.address).replace("curl ", "curl --silent --show-error --fail ", 1)
    done = subprocess.run(["bash", "-c", typed], cwd=desk, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    if "/v1/render" in command:
        assert (desk / "film.png").read_bytes().startswith(b"\x89PNG")
    elif "> heatmap.png" in command:
        assert (desk / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    elif "/v1/explain" in command:
        assert json.loads(done.stdout)["map"]
    elif "/v1/predict" in command:
        assert json.loads(done.stdout)["answers"]
    else:
        assert done.stdout


def test_the_client_of_another_protocol_is_answered(desk, server):
    (program,) = [block for block in _blocks("serving.md", "python") if "tritonclient" in block]
    program = program.replace(ADDRESS.removeprefix("http://"), server.address.removeprefix("http://"))
    done = subprocess.run([sys.executable, "-c", program], cwd=desk, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"'Edema': 0\.\d+", done.stdout)
