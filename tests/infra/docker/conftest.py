"""The images of `make images` as the tests see them; everything here is marked `docker`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.conftest import _own_cache, blob_config, blob_table

__all__ = ["_own_cache", "blob_config", "blob_table"]

STRANGER = 12345
"""A user id that no image knows."""


def docker(*arguments: str, code: int | None = 0, timeout_s: float = 800) -> str:
    """Stdout of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout


def inspect(kind: str, name: str) -> Any:
    """What `docker inspect` tells."""
    return json.loads(docker(kind, "inspect", name))[0]


@pytest.fixture(scope="session")
def docker_data(blob_config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder to mount at /data, with films, table and a config.yaml of relative paths, and its owner's uid:gid."""
    folder = tmp_path_factory.mktemp("mounted") / "data"
    config = yaml.safe_load(blob_config.read_text())
    shutil.copytree(Path(config["data"]["table"]).parent, folder)
    config["root"] = "root"
    config["data"] |= {"table": "table.csv", "image_dir": "."}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    user = (os.getuid(), os.getgid())
    if user[0] == 0:
        user = (STRANGER, STRANGER)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *user)
    return folder, f"{user[0]}:{user[1]}"
