"""infra/compose.yaml is valid Compose, keeps no secret, and its parts find one another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from components.cxr.config import load_yaml, section
from components.serve.config import ServeConfig

COMPOSE = Path(__file__).parents[2] / "infra" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
GIVEN = {"POSTGRES_PASSWORD": "a password", "ORTHANC_PASSWORD": "another", "CXRFLOW_ROOT": "/srv/results"}
SERVICES = {"postgres", "mlflow", "serve", "orthanc", "route"}


@pytest.fixture(scope="module")
def text() -> str:
    """The file with its variables replaced, as Compose does it."""
    return VARIABLE.sub(lambda found: GIVEN.get(found[1]) or found[3], COMPOSE.read_text())


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, Any]:
    """Services by name."""
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def test_it_follows_the_compose_specification(text: str) -> None:
    PyCompose.from_yaml(text)
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_yaml(text.replace("healthcheck", "helthcheck"))


def test_docker_compose_takes_it() -> None:
    command = next((name for name in ("docker-compose",) if shutil.which(name)), None)
    if command is None:
        pytest.skip("docker-compose is not installed")
    without_name = re.sub(r"^name: .*\n", "", COMPOSE.read_text(), flags=re.MULTILINE)  # version 1 does not know it
    done = subprocess.run(
        [command, "--project-directory", COMPOSE.parent, "-f", "-", "config"],
        input=without_name, env={**os.environ, **GIVEN}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() == SERVICES


def test_without_a_password_it_does_not_start(text: str) -> None:
    used = {found[1]: found[2] for found in VARIABLE.finditer(COMPOSE.read_text()) if found[2]}
    assert {name for name, kind in used.items() if kind == "?"} == GIVEN.keys()
    assert {name for name, kind in used.items() if kind == "-"} == {"CXRFLOW_MLFLOW_IMAGE", "CXRFLOW_SERVE_IMAGE"}
    values = re.findall(r"(?i)\w*password\w*: (.*)", COMPOSE.read_text())
    assert values
    assert all(value.startswith(("${POSTGRES_PASSWORD:?", "${ORTHANC_PASSWORD:?")) for value in values)


def test_every_service_is_watched_restarted_and_local(services: dict[str, Any]) -> None:
    assert services.keys() == SERVICES
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert "ports" not in services["postgres"]
    for name in ("mlflow", "serve", "route"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"] is True
    assert services["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_networks_and_volumes_exist_and_connect_who_must_talk(text: str, services: dict[str, Any]) -> None:
    values = yaml.safe_load(text)
    on = {network: {n for n, s in services.items() if network in s["networks"]} for network in values["networks"]}
    assert on == {"database": {"postgres", "mlflow"}, "front": {"mlflow", "serve", "orthanc", "route"}}
    assert {network for service in services.values() for network in service["networks"]} == on.keys()
    sources = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {source for source in sources if "/" not in source} == values["volumes"].keys()
    for source in sources:
        if source.startswith("./"):
            assert (COMPOSE.parent / source).is_file(), source


def test_the_servers_configuration_listens_to_all_and_its_root_is_mounted(services: dict[str, Any]) -> None:
    command, volumes = services["serve"]["command"], services["serve"]["volumes"]
    mounts = {target: source for source, target, mode in (volume.split(":") for volume in volumes) if mode == "ro"}
    config = COMPOSE.parent / mounts[command[command.index("--config") + 1]]
    assert ServeConfig.parse(section(load_yaml(config), "serve"), where="serve").host == "0.0.0.0"
    root = command[command.index("--root") + 1]
    assert mounts[root] == root == GIVEN["CXRFLOW_ROOT"]
    assert services["serve"]["ports"] == [f"127.0.0.1:8000:{ServeConfig().port}"]


def test_the_router_asks_the_other_services_with_the_password_of_one(services: dict[str, Any]) -> None:
    route, orthanc = services["route"], services["orthanc"]
    assert route["entrypoint"] == ["python", "-m", "components.serve", "route"]
    source, *options = route["command"]
    assert source == "http://orthanc:8042"
    assert options[options.index("--server") + 1] == f"http://serve:{ServeConfig().port}"
    mounted = [volume.split(":")[1] for volume in route["volumes"]]
    assert mounted == [options[options.index("--state") + 1]]
    environment = route["environment"]
    users = json.loads(orthanc["environment"]["ORTHANC__REGISTERED_USERS"])
    assert users == {environment["CXRFLOW_PACS_USER"]: environment["CXRFLOW_PACS_PASSWORD"]}
    assert re.fullmatch(r"orthancteam/orthanc:\d+\.\d+\.\d+", orthanc["image"])
    assert route["depends_on"].keys() == {"serve", "orthanc"}
