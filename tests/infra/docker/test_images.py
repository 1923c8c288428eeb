"""The images hold what their step needs and nothing of how they were built; each step runs by plain `docker run`."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.infra.docker.conftest import docker, inspect

pytestmark = pytest.mark.docker
STEPS = ("preprocess", "train", "evaluate", "serve")
BASE = "org.opencontainers.image.base.name"
SETTINGS = """
import json, os, pathlib
names = {"pip.conf", ".netrc", "build-context", "requirements.lock"}
skipped = ("/proc", "/sys", "/dev")
found = [
    os.path.join(folder, name)
    for folder, folders, files in os.walk("/")
    if not folder.startswith(skipped)
    for name in folders + files
    if name in names or name.endswith(".whl")
]
print(json.dumps([found, [name for name in os.environ if "pip" in name.lower()]]))
"""
IMPORTABLE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name)]))
"""


def python(image: str, code: str, *arguments: str) -> str:
    return docker("run", "--rm", "--entrypoint", "python3", image, "-c", code, *arguments)


@pytest.mark.parametrize("step", STEPS)
def test_an_image_has_its_own_extra_and_kfp(step: str) -> None:
    heavy = ["torch", "transformers", "pandas", "scipy", "mlflow", "matplotlib"]
    others = ["pytest", "pydicom", "fastapi", "kfp", "components.cxr", "pipeline", "pip"]
    expected = {
        "preprocess": {"pydicom"},
        "train": {*heavy},
        "evaluate": {*heavy, "pydicom"},
        "serve": {*heavy, "pydicom", "fastapi"},
    }[step] | {"kfp", "components.cxr"}
    found = set(json.loads(python(f"cxrflow-{step}", IMPORTABLE, *heavy, *others)))
    assert found - {"fastapi"} == expected - {"fastapi"}  # MLflow brings a FastAPI of its own
    assert step != "serve" or "fastapi" in found


def test_preprocess_adds_less_than_600_megabytes_to_its_base() -> None:
    image = inspect("image", "cxrflow-preprocess")
    added = image["Size"] - inspect("image", image["Config"]["Labels"][BASE])["Size"]
    assert 50e6 < added < 600e6


def test_the_images_that_learn_share_the_layer_with_torch() -> None:
    layers = [set(inspect("image", f"cxrflow-{step}")["RootFS"]["Layers"]) for step in ("train", "evaluate", "serve")]
    base = inspect("image", "cxrflow-train")["Config"]["Labels"][BASE]
    shared = set.intersection(*layers) - set(inspect("image", base)["RootFS"]["Layers"])
    assert len(shared) >= 2
    torch = "import os, torch; print(os.stat(torch.__file__).st_ino, torch.__version__)"
    assert len({python(f"cxrflow-{step}", torch) for step in ("train", "evaluate", "serve")}) == 1


@pytest.mark.parametrize("step", STEPS)
def test_nothing_of_the_build_is_left(step: str) -> None:
    files, variables = json.loads(python(f"cxrflow-{step}", SETTINGS))
    base = inspect("image", f"cxrflow-{step}")["Config"]["Labels"][BASE]
    assert set(files) <= set(json.loads(python(base, SETTINGS))[0]), "a base may have wheels of its own (ensurepip)"
    assert variables == []
    authorities = (
        "import hashlib; print(hashlib.sha256(open('/etc/ssl/certs/ca-certificates.crt','rb').read()).hexdigest())"
    )
    base = inspect("image", f"cxrflow-{step}")["Config"]["Labels"][BASE]
    assert python(f"cxrflow-{step}", authorities) == python(base, authorities)


@pytest.mark.parametrize("step", STEPS)
def test_an_image_is_labeled_and_its_user_is_not_root(step: str) -> None:
    config = inspect("image", f"cxrflow-{step}")["Config"]
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert config["Labels"]["org.opencontainers.image.revision"] == revision
    assert config["Labels"]["org.opencontainers.image.title"] == f"cxrflow-{step}"
    assert config["User"] == "cxrflow"
    assert python(f"cxrflow-{step}", "import os; print(os.getuid())").strip() == "10001"
    assert f"CXRFLOW_REVISION={revision}" in config["Env"]
    assert ("Healthcheck" in config) == (step == "serve")


@pytest.mark.timeout(1800)
def test_the_four_steps_run_by_plain_docker_run(docker_data: tuple[Path, str]) -> None:
    folder, user = docker_data

    def run(step: str, *arguments: str, options: tuple[str, ...] = ("--rm",)) -> str:
        mounted = ["-u", user, "-v", f"{folder}:/data"]
        return docker("run", *options, *mounted, f"cxrflow-{step}", "--config", "/data/config.yaml", *arguments)

    assert "manifest: /data/root/data/" in run("preprocess")
    assert "train: wrote bundles/" in run("train")
    assert "promoted" in run("evaluate")
    owners = {path.stat().st_uid for path in (folder / "root").rglob("*")}
    assert owners == {int(user.split(":")[0])}

    bundle = json.loads((folder / "root" / "latest" / "bundle.json").read_text())["uri"]
    evaluation = json.loads((folder / "root" / "latest" / "evaluation.json").read_text())["uri"]
    revision = inspect("image", "cxrflow-train")["Config"]["Labels"]["org.opencontainers.image.revision"]
    assert (
        json.loads((folder / Path(bundle).relative_to("/data") / "bundle.json").read_text())["git_revision"] == revision
    )
    locked = ("-d", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "-p", "127.0.0.1::8000")
    server = run("serve", "--bundle", bundle, "--evaluation", evaluation, options=locked).strip()
    try:
        deadline = time.monotonic() + 600
        while (health := inspect("container", server)["State"]["Health"]["Status"]) != "healthy":
            assert time.monotonic() < deadline, docker("logs", server)
            assert health == "starting"
            time.sleep(1)
        address = docker("port", server, "8000").splitlines()[0]
        with urllib.request.urlopen(f"http://{address}/v1/model", timeout=20) as answer:
            assert "Edema" in answer.read().decode()
        docker("stop", "-t", "20", server)
        assert inspect("container", server)["State"]["ExitCode"] == 0
    finally:
        docker("rm", "-f", server)
